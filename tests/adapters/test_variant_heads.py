"""The variants with one stream of RoIs, in both frameworks: what each trains and tests that the others do not."""

import functools
import logging
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from head_sides import (
    CHANNELS,
    CLASSES,
    DETECTORS,
    LABELS,
    SIZE,
    TRUTH,
    WIDTH,
    crowd,
    detector,
    gradients,
    moved,
    without_numbers,
)
from torchvision.ops import box_iou
from trainings import changed, run_of, same

from adapters.commands import load_adapter
from adapters.inspection.cost import count_cost, trace_parts
from adapters.inspection.probe_inputs import probe_boxes
from adapters.variants.fscascade.feature_sharing import FeatureSharing
from cascadebench.detectors.backbone import load_backbone
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.determinism.initial_weights import initial_tensor


def assert_same_detections(one, other, records, labels):
    """Two detectors detect the same, to the last bit, at these test stages."""
    for first, second in zip(one.predictions(records), other.predictions(records), strict=True):
        for label in labels:
            assert len(first.test_stages[label].scores), label
            assert same(first.test_stages[label], second.test_stages[label]), label


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
def test_ablations_of_the_cascade(framework, stages, options, thresholds, divisors, trunk):
    model = detector(framework, "cascade_rcnn", stages=stages, **options)
    assert model.heads.tasks == [(True, True)] * stages
    assert model.heads.regressors == model.heads.classifiers == stages
    assert model.iou_thresholds == thresholds[:stages]
    for stds, divisor in zip(model.target_stds, divisors, strict=False):
        assert stds == pytest.approx([std / divisor for std in (0.1, 0.1, 0.2, 0.2)])
    assert model.heads.trunk_gradient == (trunk or [1 / stages] * 4)[:stages]


@pytest.mark.parametrize("stage_loss", ["decay", "avg"])
def test_a_stages_weight_scales_the_trunks_gradient_and_not_the_heads(framework, stage_loss):
    model, reached = detector(framework, "cascade_rcnn", 0.02, stage_loss=stage_loss), []
    for shares in (model.heads.trunk_gradient, [1.0] * 3):
        model.heads.trunk_gradient = shares
        training = model.train(crowd(10, 10))
        layers = [model.parameters[f"heads.{stage}.fc1.weight"] for stage in (1, 2, 3)]
        terms = [training.losses[f"stage{stage}_classification"] for stage in (1, 2, 3)]
        reached.append([gradients(term, [training.features[0], *layers]) for term in terms])
    for stage, (scaled, full) in enumerate(zip(*reached, strict=True)):
        share = 0.5**stage if stage_loss == "decay" else 1 / 3
        torch.testing.assert_close(scaled[0], share * full[0])
        assert torch.equal(scaled[1 + stage], full[1 + stage])


def test_stages_follow_each_other_row_by_row(framework):
    """The second stage sees the first one's boxes; the last RoIs are those that enter the third."""
    model = detector(framework, "cascade_rcnn", 0.02)
    model.model.eval()
    entering = torch.tensor([[10.0, 10.0, 60.0, 70.0], [0.0, 0.0, 127.0, 127.0], [40.0, 30.0, 90.0, 100.0]])
    outputs = model.run_stages(entering)
    with torch.no_grad():
        of_last = [model.own_stage(stage, outputs.boxes[1])[0] for stage in range(3)]
        for stage in range(3):
            logits, deltas = model.own_stage(stage, entering)
            assert torch.equal(outputs.logits[stage], logits)
            assert torch.equal(outputs.last_logits[stage], of_last[stage])
            left = model.heads.decoded(stage, entering, deltas, SIZE)
            assert torch.equal(outputs.boxes[stage], left)
            torch.testing.assert_close(left, moved(entering, deltas, model.target_stds[stage]), atol=1e-3, rtol=0)
            entering = left
        headline = [TestStage.parse(model.run.variant.headline)]
        assert model.heads.run_stages(model.maps(), entering, SIZE, headline).last_logits == []
    assert not torch.equal(outputs.boxes[0], outputs.boxes[1])
    assert not torch.equal(outputs.last_logits[0], outputs.logits[0])


def test_later_stages_train_on_all_regressed_boxes(framework):
    """No sampling and no added ground truth after the first stage: what enters leaves, but for empty boxes."""
    model = detector(framework, "cascade_rcnn", 0.02)
    calls, sampled = model.train(crowd(40, 100)).calls, model.run.protocol.heads.rois_per_image
    for stage in range(3):
        call = calls["classification", stage]
        assert [len(call.boxes(image)) for image in (0, 1)] == [sampled, sampled]
        assert (call.truths > 0) == (stage == 0)


def test_boxes_regressed_out_of_the_image_are_dropped_between_stages(framework):
    model = detector(framework, "cascade_rcnn")
    with torch.no_grad():
        model.parameters["heads.1.regressor.bias"][0] = 20.0  # two widths to the right
    training = model.train(crowd(40, 100))
    first, second = (training.calls["classification", stage].rois for stage in (0, 1))
    assert sum(training.losses.values()).isfinite()
    assert 0 < len(second) < len(first)
    assert (second[:, 3:] > second[:, 1:3]).all()


# FSCascade


@pytest.mark.parametrize("options", [{"cfs": False, "lfs": False}, {"cfs": False, "lfs": True}])
def test_without_sharing_it_is_the_cascade_bit_for_bit(framework, options, records):
    """Localization sharing alone starts as the cascade, because its embeddings start at zero."""
    cascade, shared = detector(framework, "cascade_rcnn", 0.02), detector(framework, "fscascade", **options)
    with torch.no_grad():
        for name, parameter in cascade.parameters.items():
            shared.parameters[name].copy_(parameter)
    # Ground truth so large that positives are left for the last stage.
    pair = [replace(record, boxes=TRUTH.numpy(), labels=LABELS.numpy()) for record in records[2:4]]
    (losses, own), (other_losses, others) = cascade.step(pair), shared.step(pair)
    assert losses == other_losses
    assert all(torch.equal(gradient, others[name]) for name, gradient in own.items())
    embeddings = {f"heads.{stage}.embedding.weight" for stage in (2, 3)} if options["lfs"] else set()
    assert others.keys() - own.keys() == embeddings
    assert all(others[name].any() for name in embeddings)  # they learn from the first step on
    labels = [stage.label for stage in cascade.run.variant.test_stages]
    assert_same_detections(cascade, shared, records[:2], labels)


@pytest.fixture(scope="module")
def sharing():
    """Return a function that makes FSCascade; all weights, those of the sharing too, are as noise has moved them."""
    return functools.cache(lambda framework, **options: detector(framework, "fscascade", 0.05, **options))


POOLED = torch.randn(6, CHANNELS, 7, 7, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_each_switch_changes_what_it_says(framework, stage, sharing):
    switches = ({"cfs": False, "lfs": False}, {"lfs": False}, {"cfs": False}, {})
    plain, parallel, serial, both = (sharing(framework, **one).heads.stage_forward(stage, POOLED) for one in switches)
    assert torch.equal(plain[0], parallel[0]) == (stage == 0)
    assert torch.equal(plain[1], parallel[1])
    assert torch.equal(plain[0], serial[0])
    assert torch.equal(plain[1], serial[1]) == (stage == 0)
    assert torch.equal(parallel[0], both[0])
    assert torch.equal(serial[1], both[1])


@pytest.mark.parametrize("merge", ["mean", "sum", "concat"])
@pytest.mark.parametrize("embed", ["linear", "identity"])
def test_sharing_follows_its_equations(framework, merge, embed, sharing):
    model = sharing(framework, merge=merge, embed=embed)
    own = [model.feature(head, POOLED) for head in range(3)]
    merged = {"mean": sum(own) / 3, "sum": sum(own)}.get(merge)
    if merge == "concat":
        merged = torch.cat(own, 1) @ model.parameters["heads.3.reduction.weight"].T
    link = own[0]
    for stage in (2, 3):
        carried = link @ model.parameters[f"heads.{stage}.embedding.weight"].T if embed == "linear" else link
        link = own[stage - 1] + carried
    logits, deltas = model.heads.stage_forward(2, POOLED)
    torch.testing.assert_close(logits, model.outputs(2, merged)[0])
    torch.testing.assert_close(deltas, model.outputs(2, link)[1])


def test_share_gradient_changes_gradients_alone(framework, sharing):
    models = [sharing(framework), sharing(framework, share_gradient=False)]
    outputs = [model.heads.stage_forward(2, POOLED) for model in models]
    assert all(torch.equal(*pair) for pair in zip(*outputs, strict=True))
    for part in (0, 1):
        names = ["heads.3.fc1.weight", "heads.1.fc1.weight", "heads.2.embedding.weight"][: 2 + part]
        shared, constant = (
            gradients(output[part].square().sum(), [model.parameters[name] for name in names])
            for model, output in zip(models, outputs, strict=True)
        )
        assert torch.equal(shared[0], constant[0])
        assert all(gradient.any() for gradient in shared)
        assert set(constant[1:]) == {None}


def test_classifiers_on_the_last_rois_merge_their_own_heads(framework, sharing):
    """Classifier j reads heads 1 to j, also where it runs on the RoIs of the last stage."""
    model = sharing(framework)
    model.model.eval()
    outputs = model.run_stages(probe_boxes()[:5])
    with torch.no_grad():
        pooled = model.heads.pooled_alone(2, model.maps(), outputs.boxes[1])
        own = [model.feature(head, pooled) for head in range(3)]
        for stage in range(3):
            merged = torch.stack(own[: stage + 1]).mean(0)
            torch.testing.assert_close(outputs.last_logits[stage], model.outputs(stage, merged)[0])
    model.model.train()


@pytest.mark.parametrize(
    ("options", "maps"),
    [
        ({}, 2),
        ({"embed": "identity"}, 0),
        ({"lfs": False}, 0),
        ({"cfs": False}, 2),
        ({"cfs": False, "lfs": False}, 0),
        ({"lfs": False, "merge": "concat"}, 5),
        ({"merge": "concat"}, 7),
        ({"merge": "concat", "stages": 2}, 3),
        ({"merge": "sum", "stages": 4}, 3),
    ],
)
def test_sharing_adds_maps_of_the_real_width(framework, options, maps):
    """One map per embedding, T per reduction of T features, each 1024 x 1024."""
    plain, shared = (
        trainable(without_numbers(run_of(framework, variant, "coco_1x", **given)))
        for variant, given in (("cascade_rcnn", {"stages": options.get("stages", 3)}), ("fscascade", options))
    )
    assert shared - plain == maps * 1024**2
    sharing = FeatureSharing(3, 8, True, True, "concat", True, "linear", [[1.0] * 3] * 3)
    assert sharing.reductions["3"].weight.shape == (8, 24)


def test_under_own_rules_sharing_starts_as_it_always_does(framework):
    run = changed(run_of(framework, "fscascade", merge="concat"), rules=framework)
    sharing = DETECTORS[framework](run).heads.sharing
    assert sharing.embeddings["2"].weight.abs().max() == 0
    start = initial_tensor("heads.3.reduction.weight", (WIDTH, 3 * WIDTH), 0)
    assert torch.equal(sharing.reductions["3"].weight, torch.from_numpy(start))


# Faster R-CNN's relatives


def test_iterative_bbox_is_the_baseline_applied_again(framework, records):
    baseline = detector(framework, "faster_rcnn", 0.02)
    iterative = detector(framework, "iterative_bbox", 0.02, applications=4)
    assert len(iterative.run.variant.test_stages) == 10 + 3
    assert {name: one.shape for name, one in iterative.model.state_dict().items()} == {
        name: one.shape for name, one in baseline.model.state_dict().items()
    }
    assert baseline.step(records[:2])[0] == iterative.step(records[:2])[0]
    assert_same_detections(baseline, iterative, records[:2], ["(1,1)"])
    entering = probe_boxes()[:7]
    outputs = iterative.run_stages(entering)
    for boxes, logits in zip(outputs.boxes, outputs.logits, strict=True):
        once = baseline.run_stages(entering)
        assert torch.equal(boxes, once.boxes[0])
        assert torch.equal(logits, once.logits[0])
        entering = boxes
    assert len(outputs.boxes) == len(outputs.last_logits) == 4
    assert all(torch.equal(logits, outputs.logits[3]) for logits in outputs.last_logits)


def test_integral_loss_labels_one_sample_by_every_threshold(framework):
    """Below its threshold a RoI is background for a classifier."""
    model = detector(framework, "integral_loss", 0.02)
    training = model.train(crowd(14, 0, spread=30))
    first = training.calls["classification", 0]
    nearest = LABELS[box_iou(first.rois[:, 1:], TRUTH).argmax(1)]
    positives = []
    for number, threshold in enumerate((0.5, 0.6, 0.7)):
        call = training.calls["classification", number]
        assert torch.equal(call.rois, first.rois)
        assert torch.equal(call.labels, torch.where(first.overlaps >= threshold, nearest, CLASSES))
        positives.append(int(call.positive.sum()))
        entropy = torch.nn.functional.cross_entropy(call.values, call.labels)
        torch.testing.assert_close(training.losses[f"stage{number + 1}_classification"], entropy)
    assert positives[0] > positives[1] > positives[2] > 0
    assert [key for key in training.calls if key[0] == "regression"] == [("regression", 0)]
    assert torch.equal(training.calls["regression", 0].labels, first.labels)
    assert set(training.losses) == {"stage1_regression", *(f"stage{stage}_classification" for stage in (1, 2, 3))}
    assert {name.rpartition(".")[0] for name in model.names if name.startswith("heads.")} == {
        "heads.1.fc1", "heads.1.fc2", "heads.1.regressor", *(f"heads.{j}.classifier" for j in (1, 2, 3)),
    }  # fmt: skip


def test_integral_loss_runs_its_layers_once(framework):
    model, calls = detector(framework, "integral_loss", 0.02), []
    model.model.eval()
    model.layer("heads.1.fc1").register_forward_hook(lambda *_given: calls.append(1))
    outputs = model.run_stages(probe_boxes()[:6])
    assert len(calls) == 1
    assert (len(outputs.boxes), len(outputs.logits), outputs.last_logits) == (1, 3, [])
    with torch.no_grad():
        feature = model.feature(0, outputs.pooled[0])
        for number, logits in enumerate(outputs.logits, start=1):
            assert torch.equal(logits, model.layer(f"heads.{number}.classifier")(feature))


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7])
def test_threshold_of_the_baseline(framework, threshold):
    model = detector(framework, "faster_rcnn", iou_threshold=threshold)
    call = model.train(crowd(14, 5, spread=30)).calls["classification", 0]
    assert torch.equal(call.positive, call.overlaps >= threshold)
    assert call.positive.any() and (call.overlaps[~call.positive] > 0.3).any()


def test_unshared_heads_learn_apart(framework):
    model = detector(framework, "faster_rcnn", 0.02, heads="unshared")
    losses, tasks = model.train(crowd(10, 10)).losses, ("classification", "regression")
    for task, other in (tasks, tasks[::-1]):
        own, others = (gradients(losses[f"stage1_{task}"], model.of(f"heads.1.{name}.")) for name in (task, other))
        assert len(own) == 4 and all(gradient.any() for gradient in own)
        assert others == (None,) * 4


# Size and cost

SPECIFIC = {"regression": "class_specific"}
PUBLISHED = [
    ("resnet50", "faster_rcnn", SPECIFIC, 41.53, 215.82),
    ("resnet50", "decoupled_rcnn", SPECIFIC | {"stages": 1}, 55.42, 229.72),
    ("resnet50", "decoupled_rcnn", SPECIFIC, 83.22, 257.52),
    ("resnet50", "decoupled_rcnn", SPECIFIC | {"double_head": True, "stages": 1}, 47.12, 490.02),
    ("resnet50", "decoupled_rcnn", SPECIFIC | {"double_head": True}, 58.30, 1038.83),
    ("resnet101", "faster_rcnn", SPECIFIC, 60.52, 295.70),
    ("resnet101", "decoupled_rcnn", SPECIFIC | {"stages": 1}, 74.42, 309.59),
    ("resnet101", "decoupled_rcnn", SPECIFIC, 102.22, 337.39),
    ("resnet101", "cascade_rcnn", {}, 88.16, 323.34),
    ("resnet101", "decoupled_rcnn", {"classifiers": 3}, 129.85, 365.03),
    ("resnext101_32x4d", "faster_rcnn", SPECIFIC, 60.16, 299.61),
    ("resnext101_32x4d", "decoupled_rcnn", SPECIFIC | {"stages": 1}, 74.05, 313.51),
    ("resnext101_32x4d", "decoupled_rcnn", SPECIFIC, 101.85, 341.31),
]
"""Backbone, variant, options, trainable parameters in millions and GFLOPs (Decoupled R-CNN, Tables VIII to XI)."""
WIDE, HIGH = 1344, 800
"""The image that the tables count, padded."""


def run_on(framework, backbone, variant, options):
    """A run of coco_1x with a backbone."""
    run = run_of(framework, variant, "coco_1x", **options)
    return run.model_copy(update={"backbone": load_backbone(backbone)})


@functools.cache
def trunk_flops(framework, backbone):
    """Operations of backbone, neck and RPN."""
    run = run_on(framework, backbone, "faster_rcnn", {})
    model = without_numbers(run)
    (dense, _) = trace_parts(load_adapter(framework), zeros(model), run, 128, 128, 1)
    return operations(*dense) * (WIDE * HIGH) / (128 * 128)  # they grow with the pixels, so a part is counted


def zeros(module):
    """Give a module without memory weights of zero on the CPU."""
    module.to_empty(device="cpu")
    for tensor in module.state_dict().values():
        tensor.zero_()
    return module


def operations(module, inputs):
    """Operations of a module by fvcore, a multiply-add counted as one, as :mod:`adapters.inspection.cost` counts."""
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    with torch.no_grad():
        analysis = FlopCountAnalysis(module, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return analysis.total()


def trainable(model):
    """Parameters that learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(("backbone", "variant", "options", "millions", "gflops"), PUBLISHED)
def test_size_and_cost_of_the_published_detectors(framework, backbone, variant, options, millions, gflops):
    run = run_on(framework, backbone, variant, options)
    model = without_numbers(run)
    assert round(trainable(model) / 1e6, 2) == millions
    zeros(model.roi_head if framework == "mmdet" else model.roi_heads)
    (_, stages) = trace_parts(load_adapter(framework), model, run, WIDE, HIGH, 4)
    of_stages = operations(*stages) * run.protocol.rpn.test_post_nms / 4  # they grow with the RoIs
    assert (trunk_flops(framework, backbone) + of_stages) / 1e9 == pytest.approx(gflops, rel=0.01)


def test_cost_grows_with_rois(framework):
    model = detector(framework, "cascade_rcnn")
    more = changed(model.run, rpn={"test_post_nms": model.run.protocol.rpn.test_post_nms + 30})
    flops = [count_cost(model.adapter, model.model, run)["flops"] for run in (model.run, more)]
    per_roi = CHANNELS * 49 * WIDTH + WIDTH * WIDTH + WIDTH * (CLASSES + 1 + 4)
    assert flops[1] - flops[0] == 3 * 30 * per_roi


def test_flops_are_those_of_the_headline(framework):
    """The classifiers do not run on the last RoIs for it, although a test stage needs that."""
    model = detector(framework, "cascade_rcnn")
    (_, stages) = trace_parts(model.adapter, model.model.eval(), model.run, *SIZE, 8)
    forward = patch.object(model.heads, "stage_forward", wraps=model.heads.stage_forward)
    with forward as calls, torch.no_grad():
        stages[0](*stages[1])
    assert [call.args[0] for call in calls.call_args_list] == [0, 1, 2]
