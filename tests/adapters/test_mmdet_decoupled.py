"""RoIs of their own for classification and regression in MMDetection: Decoupled R-CNN, Faster R-CNN with two lists."""

import adapters.mmdet  # noqa: F401 (before MMDetection: it provides mmcv's operators)

# isort: split
import pytest
import torch
from mmdet.models.dense_heads import rpn_head as mmdet_rpn
from mmdet.structures.bbox import bbox_overlaps
from mmdet_inputs import CHANNELS, CLASSES, TRUTH, WIDTH, crowd, disturb, model_of, run_of, samples, train_heads
from mmengine.structures import InstanceData
from trainings import changed

from adapters.inspection.probe_inputs import probe_boxes, probe_features
from adapters.mmdet.adapter import ADAPTER
from adapters.mmdet.weights import common_name
from cascadebench.determinism.initial_weights import pytorch_tensor


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
    run = changed(run_of("decoupled_rcnn"), heads={"rois_per_image": size})
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
