"""MMDetection's variants: what each trains and tests that the others do not."""

import adapters.mmdet  # noqa: F401 (before MMDetection: it provides mmcv's operators)

# isort: split
import functools
from collections import defaultdict
from dataclasses import dataclass
from unittest.mock import patch

import pytest
import torch
from mmdet.models.dense_heads import rpn_head as mmdet_rpn
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from published_sizes import PUBLISHED, dense_flops, stage_flops, trainable

from adapters.feature_sharing import FeatureSharing
from adapters.mmdet.adapter import ADAPTER
from adapters.mmdet.config import detector_config
from adapters.mmdet.sampling import DecoupledRoIHead
from adapters.mmdet.weights import common_name
from adapters.probe_inputs import probe_boxes, probe_features
from cascadebench.backbone import load_backbone
from cascadebench.initial_weights import initial_tensor, pytorch_tensor
from cascadebench.study import chosen_variant, load_study
from cascadebench.variant_catalog import find_variant

CHANNELS, WIDTH, CLASSES = 64, 128, 5
TRUTH = torch.tensor([[10.0, 12.0, 60.0, 70.0], [70.0, 20.0, 120.0, 90.0]])
LABELS = torch.tensor([0, 3])


@functools.cache
def study_run(study):
    """MMDetection's first run of a study."""
    return next(planned.run for planned in load_study(study).runs if planned.run.framework == "mmdet")


def run_of(variant, study="tiny", **options):
    """A study's run with another variant."""
    found = find_variant(variant, "test")
    chosen = chosen_variant(found, found.card.complete_options(options, "test"), "test")
    return study_run(study).model_copy(update={"variant": chosen})


def model_of(variant, **options):
    """A variant with the common initial weights, in training mode."""
    return ADAPTER.build_model(run_of(variant, **options)).train()


@torch.no_grad()
def disturb(model, scale=0.05):
    """Move the weights that all cascades share by noise that depends on their order alone."""
    random = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "sharing" not in name:
            parameter.add_(scale * torch.randn(parameter.shape, generator=random) * parameter.std(correction=0))


def samples(number=2):
    """Images of 128 x 128 pixels with ground truth."""
    found = [DetDataSample(metainfo={"img_shape": (128, 128), "pad_shape": (128, 128)}) for _ in range(number)]
    for sample in found:
        sample.gt_instances = InstanceData(bboxes=TRUTH.clone(), labels=LABELS.clone())
        sample.ignored_instances = InstanceData(bboxes=TRUTH[:0], labels=LABELS[:0])
    return found


def train_step(model):
    """Losses and gradients, by common name, of one step on a fixed batch."""
    torch.manual_seed(0)
    losses = model.loss(torch.randn(2, 3, 128, 128), samples())
    total, terms = model.parse_losses(losses)
    total.backward()
    gradients = {common_name(name): parameter.grad for name, parameter in model.named_parameters()}
    return {name: value.detach() for name, value in terms.items()}, gradients


@dataclass
class Call:
    """Arguments of a head's loss: one task's output, and what it is to learn."""

    values: torch.Tensor
    rois: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor

    @property
    def positive(self):
        """Whether each RoI is positive."""
        return self.labels < CLASSES

    def boxes(self, image):
        """RoIs of one image, [R, 4]."""
        return self.rois[self.rois[:, 0] == image, 1:]


def train_heads(model, first, second=None):
    """Train the heads on two images of the same boxes; give their losses, and the calls by head and task."""
    roi_head, calls = model.roi_head, defaultdict(dict)

    def recorded(number, loss):
        def record(logits, deltas, rois, labels, weights, targets, *others, **keywords):
            for task, values in (("classification", logits), ("regression", deltas)):
                if values is not None:
                    calls[number][task] = Call(values, rois, labels, targets)
            return loss(logits, deltas, rois, labels, weights, targets, *others, **keywords)

        return record

    lists = [InstanceData(bboxes=(first if boxes is None else boxes).clone()) for boxes in (first, second)]
    given = [tuple(one.clone() for one in lists) for _ in range(2)]
    if not isinstance(roi_head, DecoupledRoIHead):
        given = [pair[0] for pair in given]
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patches:
        for number, head in enumerate(roi_head.bbox_head):
            patches.setattr(head, "loss", recorded(number, head.loss))
        losses = roi_head.loss(tuple(probe_features(CHANNELS)), given, samples())
    return {name: value for name, value in losses.items() if "loss_" in name}, calls


def crowd(positives, negatives):
    """Boxes of which so many overlap a ground truth by more than .7, and the others none."""
    random = torch.Generator().manual_seed(0)
    near = TRUTH[torch.arange(positives) % 2] + 4 * torch.rand(positives, 4, generator=random) - 2
    corner = 25 * torch.rand(negatives, 2, generator=random) + torch.tensor([0.0, 96.0])
    far = torch.cat([corner, corner + 3 + 3 * torch.rand(negatives, 2, generator=random)], 1)
    return torch.cat([near, far])


def same_detections(one, other, run, other_run, records, labels):
    """Say whether two models detect the same, to the last bit, at these test stages."""
    for first, second in zip(
        ADAPTER.predict(run, one.eval(), records), ADAPTER.predict(other_run, other.eval(), records), strict=True
    ):
        for label in labels:
            assert len(first.test_stages[label].scores), label
            for part in ("boxes", "scores", "labels"):
                pair = (getattr(found.test_stages[label], part) for found in (first, second))
                assert len({array.tobytes() for array in pair}) == 1, (label, part)


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


# Decoupled R-CNN


def test_two_lists_come_from_the_same_candidates(monkeypatch):
    """What is kept overlaps by .7 and by .85 at most, and what is not overlaps something better by more."""
    run, model = run_of("decoupled_rcnn"), model_of("decoupled_rcnn")
    disturb(model, 0.5)
    calls, suppress = [], mmdet_rpn.batched_nms

    def recorded(boxes, scores, levels, config):
        found = suppress(boxes, scores, levels, config)
        calls.append((boxes, levels, config["iou_threshold"], found[1]))
        return found

    monkeypatch.setattr(mmdet_rpn, "batched_nms", recorded)
    torch.manual_seed(0)
    features = model.extract_feat(torch.randn(2, 3, 128, 128))
    _, lists = model.rpn_head.loss_and_predict(features, samples(), model.train_cfg.rpn_proposal)
    assert [overlap for _, _, overlap, _ in calls] == [0.7, 0.7, 0.85, 0.85]
    for image, pair in enumerate(lists):
        (boxes, levels, *_), (again, levels_again, *_) = calls[image], calls[image + 2]
        assert torch.equal(boxes, again)
        assert torch.equal(levels, levels_again)
        assert levels.bincount().max() <= run.protocol.rpn.train_pre_nms
        for found, (_, _, overlap, kept) in zip(pair, (calls[image], calls[image + 2]), strict=True):
            assert torch.equal(found.bboxes, boxes[kept][: run.protocol.rpn.train_post_nms])
            between = bbox_overlaps(boxes, boxes[kept]) * (levels[:, None] == levels[kept])
            others = between[kept] - torch.eye(len(kept))
            assert others.max() <= overlap + 1e-6
            dropped = torch.ones(len(boxes), dtype=torch.bool)
            dropped[kept] = False
            assert (between[dropped].max(1)[0] > overlap).all()
        assert len(calls[image + 2][3]) > len(calls[image][3])
    (tested, _) = model.rpn_head.predict(features, samples())
    assert calls[-1][2] == run.protocol.rpn.nms_iou
    assert isinstance(tested, InstanceData)


@pytest.mark.parametrize(
    ("size", "near", "far", "positives", "rois"),
    [
        (64, 40, 100, 40, 64),
        (64, 100, 100, 64, 64),
        (64, 10, 20, 10, 30),
        (512, 700, 600, 512, 512),
        (512, 9, 600, 9, 512),
    ],
)
def test_each_task_draws_its_own_sample(size, near, far, positives, rois):
    """Classification at 1:3 with ground truth; regression all the positives that fit, then negatives."""
    run = run_of("decoupled_rcnn")
    heads = run.protocol.heads.model_copy(update={"rois_per_image": size})
    run = run.model_copy(update={"protocol": run.protocol.model_copy(update={"heads": heads})})
    losses, calls = train_heads(ADAPTER.build_model(run).train(), crowd(near, far))
    assert set(losses) == {"s0.loss_cls", "s0.loss_bbox", "s1.loss_bbox", "s2.loss_bbox"}
    classification, regression = calls[0]["classification"], calls[0]["regression"]
    share = min(size // 4, near + len(TRUTH))
    assert int(classification.positive.sum()) == 2 * share
    assert len(classification.rois) == 2 * min(size, share + far)
    assert int(regression.positive.sum()) == 2 * positives
    assert len(regression.rois) == 2 * rois
    with_truth = (regression.rois[:, None, 1:] == TRUTH).all(2).any()
    assert not with_truth
    # Padding has no part in the sum, and counts in what divides it.
    (gradient,) = torch.autograd.grad(losses["s0.loss_bbox"], regression.values, retain_graph=True)
    assert not gradient[~regression.positive].any()
    assert (gradient[regression.positive].abs() - 0.5 / (2 * rois)).abs().max() < 1e-8


def test_regression_ground_truth_joins_if_asked_for():
    _, calls = train_heads(model_of("decoupled_rcnn", regression_ground_truth=True), crowd(10, 20))
    regression = calls[0]["regression"]
    assert int((regression.rois[:, None, 1:] == TRUTH).all(2).any(1).sum()) == 4
    assert int(regression.positive.sum()) == 24


def test_lists_go_to_their_tasks():
    first, second = crowd(10, 20), crowd(8, 12) + 1.0
    _, calls = train_heads(model_of("decoupled_rcnn"), first, second)
    assert {tuple(box) for box in calls[0]["regression"].boxes(0).tolist()} == {tuple(box) for box in second.tolist()}
    known = {tuple(box) for box in torch.cat([first, TRUTH]).tolist()}
    assert {tuple(box) for box in calls[0]["classification"].boxes(1).tolist()} == known


@pytest.mark.parametrize("options", [{}, {"nms_reg": 0.85, "heads": "unshared"}], ids=["decoupled", "baseline apart"])
def test_no_loss_trains_the_other_task_s_branch(options):
    model = model_of("faster_rcnn" if options else "decoupled_rcnn", **options)
    losses, _ = train_heads(model, crowd(10, 20))
    head = model.roi_head.bbox_head[0]
    for loss, own, other in (("loss_cls", head.cls_fcs, head.reg_fcs), ("loss_bbox", head.reg_fcs, head.cls_fcs)):
        trained, untouched = (
            torch.autograd.grad(losses[f"s0.{loss}"], branch[0].weight, retain_graph=True, allow_unused=True)[0]
            for branch in (own, other)
        )
        assert trained.abs().max() > 0
        assert untouched is None
    for later in range(1, len(model.roi_head.bbox_head)):
        parameters = [*head.parameters(), *model.roi_head.bbox_head[later].parameters()]
        gradients = torch.autograd.grad(losses[f"s{later}.loss_bbox"], parameters, allow_unused=True)
        own = len(list(head.parameters()))
        assert all(gradient is None for gradient in gradients[:own])
        assert all(gradient is not None for gradient in gradients[own:])


def test_positives_move_on_and_negatives_stay():
    model = model_of("decoupled_rcnn")
    with torch.no_grad():
        model.roi_head.bbox_head[0].fc_reg.bias.copy_(torch.tensor([0.3, -0.2, 0.1, 0.1]))
    _, calls = train_heads(model, crowd(10, 20))
    first, second = calls[0]["regression"], calls[1]["regression"]
    coder = model.roi_head.bbox_head[0].bbox_coder
    moved = coder.decode(first.rois[:, 1:], first.values.detach(), max_shape=(128, 128))
    expected = torch.where(first.positive[:, None], moved, first.rois[:, 1:])
    for image in range(2):
        own = first.rois[:, 0] == image
        assert {tuple(box) for box in second.boxes(image).tolist()} == {tuple(box) for box in expected[own].tolist()}
    assert not second.rois.requires_grad
    # Matched again: the target is what leads from the moved box to its ground truth.
    overlaps = bbox_overlaps(second.rois[:, 1:], TRUTH)
    assert torch.equal(second.positive, overlaps.max(1)[0] >= 0.5)


def test_moved_boxes_without_area_are_dropped():
    model = model_of("decoupled_rcnn")
    with torch.no_grad():
        model.roi_head.bbox_head[0].fc_reg.bias[0] = 40.0  # four widths to the right, out of the image
    _, calls = train_heads(model, crowd(10, 20))
    assert len(calls[1]["regression"].rois) == 2 * 20
    assert not calls[2]["regression"].positive.any()


def test_cascaded_classifiers_train_on_moved_rois():
    model = model_of("decoupled_rcnn", classifiers=2, iou_thresholds="rising")
    with torch.no_grad():
        model.roi_head.bbox_head[0].fc_reg.bias.copy_(torch.tensor([0.3, -0.2, 0.1, 0.1]))
    losses, calls = train_heads(model, crowd(10, 20))
    assert {"s1.loss_cls"} == {name for name in losses if "cls" in name and name != "s0.loss_cls"}
    first, second = calls[0]["classification"], calls[1]["classification"]
    head = model.roi_head.bbox_head[0]
    pooled = model.roi_head.bbox_roi_extractor[0](tuple(probe_features(CHANNELS))[:4], first.rois)
    with torch.no_grad():
        moved = head.bbox_coder.decode(first.rois[:, 1:], head.regress(pooled), max_shape=(128, 128))
    for image in range(2):
        given = moved[first.rois[:, 0] == image].sort(0)[0]
        assert torch.allclose(second.boxes(image).sort(0)[0], given, atol=1e-4)
    assert torch.equal(second.positive, bbox_overlaps(second.rois[:, 1:], TRUTH).max(1)[0] >= 0.6)


def test_a_single_classifier_scores_the_proposals():
    run, model = run_of("decoupled_rcnn"), model_of("decoupled_rcnn").eval()
    features, boxes = tuple(probe_features(CHANNELS, 1)), probe_boxes()[:7]
    with torch.no_grad():
        outputs = model.roi_head.run_stages(features, boxes, (128, 128), run.variant.test_stages)
        pooled = model.roi_head.bbox_roi_extractor[0](features[:4], torch.cat([torch.zeros(7, 1), boxes], 1))
        expected = model.roi_head.bbox_head[0].classify(pooled)
    assert len(outputs.boxes) == 3
    assert len(outputs.logits) == 1
    assert torch.equal(outputs.logits[0], expected)
    names = {common_name(name) for name in model.state_dict()}
    assert not any(name.startswith(("heads.2.cl", "heads.3.cl")) for name in names if name)
    assert [stage.label for stage in run.variant.test_stages] == ["(1,1)", "(2,1)", "(3,1)"]


def test_the_best_class_says_where_a_box_goes():
    """With one regressor per class: the foreground class of the highest score, in training and at test."""
    run, model = (
        run_of("decoupled_rcnn", regression="class_specific"),
        model_of("decoupled_rcnn", regression="class_specific"),
    )
    disturb(model)
    head = model.roi_head.bbox_head[0]
    torch.nn.init.normal_(head.fc_reg.bias, generator=torch.Generator().manual_seed(0))
    features = tuple(probe_features(CHANNELS))
    _, calls = train_heads(model, crowd(10, 20))
    first, second = calls[0]["regression"], calls[1]["regression"]
    with torch.no_grad():
        best = head.classify(model.roi_head.bbox_roi_extractor[0](features[:4], first.rois))[:, :-1].argmax(1)
    chosen = first.values.detach().view(-1, CLASSES, 4)[torch.arange(len(best)), best]
    moved = head.bbox_coder.decode(first.rois[:, 1:], chosen, max_shape=(128, 128))
    expected = torch.where(first.positive[:, None], moved, first.rois[:, 1:])
    assert (best[first.positive] != first.labels[first.positive]).any()  # the label would say something else
    found = {tuple(box) for box in second.boxes(0).tolist()}
    assert found == {tuple(box) for box in expected[first.rois[:, 0] == 0].tolist()}
    model.eval()
    with torch.no_grad():
        boxes = probe_boxes()[:7]
        outputs = model.roi_head.run_stages(
            tuple(one[:1] for one in features), boxes, (128, 128), run.variant.test_stages
        )
        best = outputs.logits[0][:, :-1].argmax(1)
        entering = outputs.boxes[0].view(7, CLASSES, 4)[torch.arange(7), best]
        rois = torch.cat([torch.zeros(7, 1), entering], 1)
        pooled = model.roi_head.bbox_roi_extractor[1](tuple(one[:1] for one in features)[:4], rois)
        later = model.roi_head.bbox_head[1]
        expected = later.bbox_coder.decode(entering, later.regress(pooled), max_shape=(128, 128))
    assert torch.allclose(outputs.boxes[1], expected, atol=1e-4)
    assert outputs.boxes[0].shape == (7, 4 * CLASSES)


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, [0.5, 0.5, 0.5]),
        ({"stages": 1}, [1.0]),
        ({"lambda": 2.0}, [2.0, 2.0, 2.0]),
        ({"stage_weights": "halved"}, [0.5, 0.25, 0.125]),
    ],
)
def test_weights_of_the_regression_losses(options, weights):
    """They act on the loss, so on head and trunk alike; classification has weight 1."""
    losses, calls = train_heads(model_of("decoupled_rcnn", **options), crowd(10, 20))
    for stage, weight in enumerate(weights):
        call = calls[stage]["regression"]
        distance = (call.values.detach() - call.targets)[call.positive].abs().sum()
        assert losses[f"s{stage}.loss_bbox"].item() == pytest.approx(
            weight * float(distance) / len(call.rois), rel=1e-5
        )
    call = calls[0]["classification"]
    entropy = torch.nn.functional.cross_entropy(call.values, call.labels)
    assert losses["s0.loss_cls"].item() == pytest.approx(entropy.item(), rel=1e-5)


def test_layers_of_decoupled_heads():
    """Two branches, or shared layers in the first stage alone; convolutions before every regressor."""

    def parts(**options):
        names = {
            common_name(name) for name in model_of("decoupled_rcnn", **options).roi_head.state_dict(prefix="roi_head.")
        }
        return {name.rpartition(".")[0] for name in names if name}

    later = {f"heads.{stage}.{part}" for stage in (2, 3) for part in ("regression.fc1", "regression.fc2", "regressor")}
    outputs = {"heads.1.classifier", "heads.1.regressor"}
    both = {f"heads.1.{task}.fc{layer}" for task in ("classification", "regression") for layer in (1, 2)}
    assert parts() == later | outputs | both
    assert parts(heads="shared") == later | outputs | {"heads.1.fc1", "heads.1.fc2"}
    classifying = {f"heads.2.{part}" for part in ("classification.fc1", "classification.fc2", "classifier")}
    assert parts(heads="shared", classifiers=2) == parts(heads="shared") | classifying
    double = parts(double_head=True, stages=2)
    assert not any("regression.fc" in name for name in double)
    assert {"heads.1.classification.fc1", "heads.2.regression.block0.shortcut.norm"} <= double


def test_later_weights_as_pytorch_draws_them():
    state = model_of("decoupled_rcnn", later_weights="pytorch").roi_head.state_dict()
    for layer, fan_in in ((0, CHANNELS * 49), (1, WIDTH)):
        for tensor in ("weight", "bias"):
            found = state[f"bbox_head.1.reg_fcs.{layer}.{tensor}"]
            name = f"heads.2.regression.fc{layer + 1}.{tensor}"
            expected = pytorch_tensor(name, tuple(found.shape), fan_in, 0)
            assert torch.equal(found, torch.from_numpy(expected)), name
    assert state["bbox_head.0.reg_fcs.0.bias"].abs().max() == 0


@pytest.mark.parametrize("name", ["iou_thresholds", "target_statistics"])
def test_thresholds_and_deviations_of_decoupled_stages(name):
    roi_head = model_of("decoupled_rcnn", **{name: "rising" if name == "iou_thresholds" else "constant"}).roi_head
    thresholds = [0.5, 0.6, 0.7] if name == "iou_thresholds" else [0.5] * 3
    assert [assigner.pos_iou_thr for assigner in roi_head.bbox_assigner] == thresholds
    divisors = [1, 1, 1] if name == "target_statistics" else [1, 2, 3]
    assert [head.bbox_coder.stds[0] for head in roi_head.bbox_head] == pytest.approx([0.1 / one for one in divisors])


# Faster R-CNN with proposals of its own for each task


def test_the_baseline_may_sample_apart():
    """Both tasks at 1:3 with ground truth, each from its own list; the regression loss divides by its own sample."""
    model = model_of("faster_rcnn", nms_cls=0.6)
    assert model.rpn_head.train_nms_iou == [0.6, 0.7]
    losses, calls = train_heads(model, crowd(40, 100), crowd(40, 20))
    classification, regression = calls[0]["classification"], calls[0]["regression"]
    assert int(classification.positive.sum()) == int(regression.positive.sum()) == 2 * 16
    assert (len(classification.rois), len(regression.rois)) == (2 * 64, 2 * 36)
    distance = (regression.values.detach() - regression.targets)[regression.positive].abs().sum()
    assert losses["s0.loss_bbox"].item() == pytest.approx(float(distance) / 72, rel=1e-5)


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
