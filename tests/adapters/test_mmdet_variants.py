"""MMDetection's variants: what each trains and tests that the others do not."""

import adapters.mmdet  # noqa: F401 (before MMDetection: it provides mmcv's operators)

# isort: split
import functools
from unittest.mock import patch

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmdet_inputs import (
    CHANNELS,
    CLASSES,
    LABELS,
    TRUTH,
    WIDTH,
    disturb,
    model_of,
    run_of,
    same_detections,
    train_heads,
    train_step,
)
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from published_sizes import PUBLISHED, dense_flops, stage_flops, trainable

from adapters.inspection.probe_inputs import probe_boxes, probe_features
from adapters.mmdet.adapter import ADAPTER
from adapters.mmdet.config import detector_config
from adapters.variants.fscascade.feature_sharing import FeatureSharing
from cascadebench.detectors.backbone import load_backbone
from cascadebench.determinism.initial_weights import initial_tensor

# Cascade R-CNN


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("options", "thresholds", "divisors", "trunk"),
    [
        ({}, [0.5, 0.6, 0.7, 0.75], [1, 2, 3, 4], [1, 1 / 2, 1 / 4, 1 / 8]),
        ({"iou_thresholds": "constant"}, [0.5] * 4, [1, 2, 3, 4], [1, 1 / 2, 1 / 4, 1 / 8]),
        ({"target_statistics": "constant"}, [0.5, 0.6, 0.7, 0.75], [1] * 4, [1, 1 / 2, 1 / 4, 1 / 8]),
        ({"stage_loss": "avg"}, [0.5, 0.6, 0.7, 0.75], [1, 2, 3, 4], None),
    ],
)
def test_ablations_of_the_cascade(stages, options, thresholds, divisors, trunk):
    roi_head = model_of("cascade_rcnn", stages=stages, **options).roi_head
    assert len(roi_head.bbox_head) == stages
    assert [assigner.pos_iou_thr for assigner in roi_head.bbox_assigner] == thresholds[:stages]
    for head, divisor in zip(roi_head.bbox_head, divisors, strict=False):
        assert list(head.bbox_coder.stds) == pytest.approx([std / divisor for std in (0.1, 0.1, 0.2, 0.2)])
    assert roi_head.trunk_gradient == (trunk or [1 / stages] * 4)[:stages]


# FSCascade


@pytest.mark.parametrize("options", [{"cfs": False, "lfs": False}, {"cfs": False, "lfs": True}])
def test_without_sharing_it_is_the_cascade_bit_for_bit(options, records):
    """Localization sharing alone starts as the cascade, because its embeddings start at zero."""
    run, other_run = run_of("cascade_rcnn"), run_of("fscascade", **options)
    cascade, shared = model_of("cascade_rcnn"), model_of("fscascade", **options)
    for model in (cascade, shared):
        disturb(model)
    losses, gradients = train_step(cascade)
    other_losses, other_gradients = train_step(shared)
    assert losses.keys() == other_losses.keys()
    assert all(torch.equal(value, other_losses[name]) for name, value in losses.items())
    for name, gradient in gradients.items():
        assert torch.equal(gradient, other_gradients[name]), name
    if options["lfs"]:
        assert other_gradients["heads.3.embedding.weight"].abs().max() > 0  # it learns from the first step on
    else:
        assert gradients.keys() == other_gradients.keys()
    labels = [stage.label for stage in run.variant.test_stages]
    same_detections(cascade, shared, run, other_run, records[:2], labels)


@pytest.fixture(scope="module")
def sharing_models():
    """FSCascade with each switch, from the same weights; embeddings are no longer zero."""
    switches = {
        "none": {"cfs": False, "lfs": False},
        "cfs": {"lfs": False},
        "lfs": {"cfs": False},
        "both": {},
        "constant": {"share_gradient": False},
    }
    models = {name: model_of("fscascade", **options) for name, options in switches.items()}
    for model in models.values():
        disturb(model)
        for embedding in model.roi_head.sharing.embeddings.values():
            torch.nn.init.normal_(embedding.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return models


def stage_outputs(model, stage):
    """Logits and deltas of a stage on fixed pooled RoIs."""
    pooled = torch.randn(6, CHANNELS, 7, 7, generator=torch.Generator().manual_seed(1))
    return model.roi_head.stage_forward(stage, pooled)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_each_switch_changes_what_it_says(stage, sharing_models):
    logits, deltas = stage_outputs(sharing_models["none"], stage)
    parallel, serial, both = (stage_outputs(sharing_models[name], stage) for name in ("cfs", "lfs", "both"))
    assert torch.equal(logits, parallel[0]) == (stage == 0)
    assert torch.equal(deltas, parallel[1])
    assert torch.equal(logits, serial[0])
    assert torch.equal(deltas, serial[1]) == (stage == 0)
    assert torch.equal(parallel[0], both[0])
    assert torch.equal(serial[1], both[1])


@pytest.mark.parametrize("part", [0, 1])
def test_share_gradient_changes_gradients_alone(part, sharing_models):
    models = [sharing_models[name] for name in ("both", "constant")]
    outputs = [stage_outputs(model, 2)[part] for model in models]
    assert torch.equal(*outputs)
    own, borrowed = (
        [
            torch.autograd.grad(
                output.square().sum(), model.roi_head.bbox_head[head].shared_fcs[0].weight,
                retain_graph=True, allow_unused=True,
            )[0]
            for model, output in zip(models, outputs, strict=True)
        ]
        for head in (2, 0)
    )  # fmt: skip
    assert torch.equal(*own)
    assert borrowed[0].abs().max() > 0
    assert borrowed[1] is None


def test_classifiers_on_the_last_rois_merge_their_own_heads(sharing_models):
    """Classifier j reads heads 1 to j, also where it runs on the RoIs of the last stage."""
    run, model = run_of("fscascade"), sharing_models["both"].eval()
    features = tuple(probe_features(CHANNELS, 1))
    with torch.no_grad():
        outputs = model.roi_head.run_stages(features, probe_boxes()[:5], (128, 128), run.variant.test_stages)
        entering = torch.cat([torch.zeros(5, 1), outputs.boxes[1]], 1)
        pooled = model.roi_head.bbox_roi_extractor[2](features[:4], entering)
        of_heads = [head.features(pooled)[0] for head in model.roi_head.bbox_head]
        for number, head in enumerate(model.roi_head.bbox_head):
            merged = torch.stack(of_heads[: number + 1]).mean(0)
            assert torch.allclose(outputs.last_logits[number], head.fc_cls(merged), atol=1e-6)
    model.train()


@pytest.mark.parametrize(
    ("options", "maps"),
    [
        ({}, 2),
        ({"embed": "identity"}, 0),
        ({"lfs": False}, 0),
        ({"lfs": False, "merge": "concat"}, 5),
        ({"merge": "concat", "stages": 2}, 3),
        ({"merge": "sum", "stages": 4}, 3),
    ],
)
def test_sharing_adds_maps_of_the_real_width(options, maps):
    """One map per embedding, T per reduction of T features, each 1024 x 1024."""
    found = {}
    for variant, given in (("cascade_rcnn", {"stages": options.get("stages", 3)}), ("fscascade", options)):
        found[variant] = trainable(empty_model(run_of(variant, "coco_1x", **given)))
    assert found["fscascade"] - found["cascade_rcnn"] == maps * 1024**2
    assert FeatureSharing(3, 8, True, True, "concat", True, "linear").reductions["3"].weight.shape == (8, 24)


def test_under_own_rules_sharing_starts_as_it_always_does():
    run = run_of("fscascade", merge="concat")
    run = run.model_copy(update={"protocol": run.protocol.model_copy(update={"rules": "mmdet"})})
    sharing = ADAPTER.build_model(run).roi_head.sharing
    assert sharing.embeddings["2"].weight.abs().max() == 0
    start = initial_tensor("heads.3.reduction.weight", (WIDTH, 3 * WIDTH), 0)
    assert torch.equal(sharing.reductions["3"].weight, torch.from_numpy(start))


# Iterative BBox and integral loss


def test_iterative_bbox_is_the_baseline_applied_again(records):
    run, other_run = run_of("faster_rcnn"), run_of("iterative_bbox")
    baseline, iterative = model_of("faster_rcnn"), model_of("iterative_bbox")
    state = baseline.state_dict()
    assert {name: tensor.shape for name, tensor in iterative.state_dict().items()} == {
        name: tensor.shape for name, tensor in state.items()
    }
    disturb(baseline)
    iterative.load_state_dict(baseline.state_dict())
    same_detections(baseline, iterative, run, other_run, records[:2], ["(1,1)"])
    features, boxes = tuple(probe_features(CHANNELS, 1)), probe_boxes()[:7]
    with torch.no_grad():
        outputs = iterative.roi_head.run_stages(features, boxes, (128, 128), other_run.variant.test_stages)
        entering = boxes
        for application in range(3):
            once = baseline.roi_head.run_stages(features, entering, (128, 128), run.variant.test_stages)
            assert torch.equal(outputs.boxes[application], once.boxes[0])
            assert torch.equal(outputs.logits[application], once.logits[0])
            entering = once.boxes[0]
    assert all(torch.equal(logits, outputs.logits[2]) for logits in outputs.last_logits)


def test_labels_of_the_integral_loss():
    """One sample for all classifiers; below its threshold a RoI is background for a classifier."""
    model = model_of("integral_loss")
    disturb(model)
    random = torch.Generator().manual_seed(0)
    near = TRUTH[torch.arange(14) % 2] + 30 * torch.rand(14, 4, generator=random) - 15
    losses, calls = train_heads(model, near)
    first = calls[0]["classification"]
    overlaps = bbox_overlaps(first.rois[:, 1:], TRUTH)
    found = set()
    for number, threshold in enumerate((0.5, 0.6, 0.7)):
        call = calls[number]["classification"]
        assert torch.equal(call.rois, first.rois)
        expected = torch.where(overlaps.max(1)[0] >= threshold, LABELS[overlaps.argmax(1)], CLASSES)
        assert torch.equal(call.labels, expected)
        found.add(int(call.positive.sum()))
        name = "s0.loss_cls" if number == 0 else f"s0.loss_cls{number + 1}"
        entropy = torch.nn.functional.cross_entropy(call.values, call.labels)
        assert losses[name].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert len(found) == 3
    assert torch.equal(calls[0]["regression"].labels, first.labels)
    assert len([call for call in calls.values() if "regression" in call]) == 1


# Size and cost


def empty_model(run):
    """A detector without memory for its weights."""
    init_default_scope("mmdet")
    with torch.device("meta"):
        return MODELS.build(ConfigDict(detector_config(run))).eval()


@functools.cache
def trunk_flops(backbone):
    """Operations of backbone, neck and RPN."""
    run = run_on(backbone, "faster_rcnn", {})
    return dense_flops(ADAPTER, empty_model(run), run)


def run_on(backbone, variant, options):
    """A run of coco_1x with a backbone."""
    run = run_of(variant, "coco_1x", **options)
    return run.model_copy(update={"backbone": load_backbone(backbone)})


@pytest.mark.parametrize(("backbone", "variant", "options", "millions", "gflops"), PUBLISHED)
def test_size_and_cost_of_the_published_detectors(backbone, variant, options, millions, gflops):
    run = run_on(backbone, variant, options)
    model = empty_model(run)
    assert round(trainable(model) / 1e6, 2) == millions
    found = trunk_flops(backbone) + stage_flops(ADAPTER, model, model.roi_head, run)
    assert found / 1e9 == pytest.approx(gflops, rel=0.01)


def test_flops_are_those_of_the_headline():
    """The classifiers do not run on the last RoIs for it, although a test stage needs that."""
    run = run_of("cascade_rcnn")
    model = ADAPTER.build_model(run).eval()
    (_, stages) = ADAPTER.trace_parts(model, run, 128, 128, 8)
    with patch.object(model.roi_head, "stage_forward", wraps=model.roi_head.stage_forward) as forward, torch.no_grad():
        stages[0](*stages[1])
    assert [call.args[0] for call in forward.call_args_list] == [0, 1, 2]
