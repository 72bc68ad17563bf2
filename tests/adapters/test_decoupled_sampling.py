"""RoIs of their own for classification and regression, in both frameworks: Decoupled R-CNN and Faster R-CNN."""

import pytest
import torch
from head_sides import (
    CHANNELS,
    CLASSES,
    DETECTORS,
    TRUTH,
    WIDTH,
    crowd,
    detector,
    gradients,
    moved,
    same_boxes,
)
from trainings import changed, run_of

from adapters.inspection.probe_inputs import probe_boxes
from cascadebench.determinism.initial_weights import pytorch_tensor

SHIFT = torch.tensor([0.3, -0.2, 0.1, 0.1])
"""Deltas that take every box elsewhere."""


def shifted(framework: str, bias: torch.Tensor = SHIFT, **options):
    """Decoupled R-CNN whose first regressor moves every box by `bias`, more or less."""
    one = detector(framework, "decoupled_rcnn", **options)
    with torch.no_grad():
        one.parameters["heads.1.regressor.bias"].copy_(bias)
    return one


def distance(call) -> float:
    """How far the deltas of the positives are from their targets, in sum."""
    return float((call.values.detach() - call.targets)[call.positive].abs().sum())


# Samples


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
def test_each_task_draws_its_own_sample(framework, size, near, far, positives, rois):
    """Classification at 1:3 with ground truth; regression all the positives that fit, then negatives."""
    run = changed(run_of(framework, "decoupled_rcnn"), heads={"rois_per_image": size})
    proposals, model = crowd(near, far), DETECTORS[framework](run)
    training = model.train(proposals)
    assert set(training.losses) == {"stage1_classification", *(f"stage{stage}_regression" for stage in (1, 2, 3))}
    classification, regression = training.calls["classification", 0], training.calls["regression", 0]
    share = min(size // 4, near + len(TRUTH))
    assert int(classification.positive.sum()) == 2 * share
    assert len(classification.rois) == 2 * min(size, share + far)
    assert int(regression.positive.sum()) == 2 * positives
    assert len(regression.rois) == 2 * rois
    assert regression.truths == 0
    # Negatives have no part in the sum, and count in what divides it.
    (gradient,) = gradients(training.losses["stage1_regression"], [regression.values])
    assert not gradient[~regression.positive].any()
    assert (gradient[regression.positive].abs() - 0.5 / (2 * rois)).abs().max() < 1e-8
    again = model.train(proposals).calls["regression", 0]
    assert torch.equal(again.rois, regression.rois)
    if near > size:  # a random choice
        assert not same_boxes(regression.boxes(0), proposals[:size])


def test_regression_ground_truth_joins_if_asked_for(framework):
    model = detector(framework, "decoupled_rcnn", regression_ground_truth=True)
    regression = model.train(crowd(10, 20)).calls["regression", 0]
    assert regression.truths == 4
    assert int(regression.positive.sum()) == 24


def test_lists_go_to_their_tasks(framework):
    first, second = crowd(10, 20), crowd(8, 12) + 1.0
    calls = detector(framework, "decoupled_rcnn").train(first, second).calls
    assert same_boxes(calls["regression", 0].boxes(0), second)
    assert same_boxes(calls["classification", 0].boxes(1), torch.cat([first, TRUTH]))


def test_the_baseline_may_sample_apart(framework):
    """Both tasks at 1:3 with ground truth, each from its own list; the regression loss divides by its own sample."""
    training = detector(framework, "faster_rcnn", nms_cls=0.6).train(crowd(40, 100), crowd(40, 20))
    assert set(training.losses) == {"stage1_classification", "stage1_regression"}
    classification, regression = training.calls["classification", 0], training.calls["regression", 0]
    assert int(classification.positive.sum()) == int(regression.positive.sum()) == 2 * 16
    assert (len(classification.rois), len(regression.rois)) == (2 * 64, 2 * 36)
    loss = training.losses["stage1_regression"].item()
    assert loss == pytest.approx(distance(regression) / 72, rel=1e-5)


# Training


@pytest.mark.parametrize(
    ("variant", "options"),
    [("decoupled_rcnn", {}), ("decoupled_rcnn", {"classifiers": 3}), ("faster_rcnn", {"nms_reg": 0.85})],
)
def test_each_branch_learns_from_its_own_rois_alone(framework, variant, options):
    model = detector(framework, variant, 0.02, **options, **({"heads": "unshared"} if "nms_reg" in options else {}))
    losses = model.train(crowd(10, 20)).losses
    branches = {f"stage{stage}_{task}": model.of(f"heads.{stage}.{task}.")
                for stage in (1, 2, 3) for task in ("classification", "regression")}  # fmt: skip
    assert set(losses) == {name for name, parameters in branches.items() if parameters}
    for name, loss in losses.items():
        for owner, branch in branches.items():
            reached = gradients(loss, branch) if branch else ()
            assert all(one.any() for one in reached) if owner == name else set(reached) <= {None}, (name, owner)


def test_positives_move_on_and_negatives_stay(framework):
    model = shifted(framework)
    calls = model.train(crowd(10, 20)).calls
    for stage in (0, 1):
        before, after = calls["regression", stage], calls["regression", stage + 1]
        all_moved = moved(before.rois[:, 1:], before.values.detach(), model.target_stds[stage])
        expected = torch.where(before.positive[:, None], all_moved, before.rois[:, 1:])
        for image in (0, 1):
            assert same_boxes(after.boxes(image), expected[before.rois[:, 0] == image])
        assert not after.rois.requires_grad
        assert torch.equal(after.positive, after.overlaps >= 0.5)  # matched again
    assert not same_boxes(calls["regression", 0].boxes(0), calls["regression", 1].boxes(0))


def test_moved_boxes_without_area_are_dropped(framework):
    """The first regressor takes positives four widths to the right, out of the image."""
    calls = shifted(framework, torch.tensor([40.0, 0, 0, 0])).train(crowd(10, 20)).calls
    assert len(calls["regression", 1].rois) == 2 * 20
    assert not calls["regression", 2].positive.any()


def test_cascaded_classifiers_train_on_all_rois_that_the_regressors_moved(framework):
    model = shifted(framework, classifiers=3, iou_thresholds="rising")
    calls = model.train(crowd(10, 20)).calls
    for stage, threshold in enumerate((0.6, 0.7)):
        before, after = calls["classification", stage], calls["classification", stage + 1]
        with torch.no_grad():
            _, deltas = model.heads.stage_forward(stage, model.pooled(stage, before.rois))
        all_moved = moved(before.rois[:, 1:], deltas, model.target_stds[stage])
        for image in (0, 1):
            assert same_boxes(after.boxes(image), all_moved[before.rois[:, 0] == image])
        assert torch.equal(after.positive, after.overlaps >= threshold)


@pytest.mark.parametrize("options", [{}, {"classifiers": 2}])
def test_the_best_class_says_where_a_box_goes(framework, options):
    """With one regressor per class: the foreground class of the highest score, in training and at test."""
    model = detector(framework, "decoupled_rcnn", 0.05, regression="class_specific", **options)
    bias = model.parameters["heads.1.regressor.bias"]
    torch.nn.init.normal_(bias, generator=torch.Generator().manual_seed(0))
    assert [len(model.parameters[f"heads.{stage}.regressor.bias"]) for stage in (1, 2, 3)] == [4 * CLASSES, 4, 4]

    def by_class(boxes, logits, deltas):
        chosen = [row[4 * int(scores[:-1].argmax()) :][:4] for row, scores in zip(deltas, logits, strict=True)]
        return moved(boxes, torch.stack(chosen), model.target_stds[0])

    calls = model.train(crowd(10, 20)).calls
    for task in ("regression", "classification")[: 1 + bool(options)]:
        before = calls[task, 0]
        with torch.no_grad():
            logits, deltas = model.heads.stage_forward(0, model.pooled(0, before.rois))
        expected = by_class(before.rois[:, 1:], logits, deltas)
        if task == "regression":
            best = logits[:, :-1].argmax(1)
            assert (best[before.positive] != before.labels[before.positive]).any()  # the label would say something else
            expected = torch.where(before.positive[:, None], expected, before.rois[:, 1:])
        assert same_boxes(calls[task, 1].boxes(0), expected[before.rois[:, 0] == 0])
    model.model.eval()
    boxes = probe_boxes()[:7]
    outputs = model.run_stages(boxes)
    with torch.no_grad():
        logits, deltas = model.heads.stage_forward(0, model.heads.pooled_alone(0, model.maps(), boxes))
        entering = by_class(boxes, logits, deltas)
        _, later = model.heads.stage_forward(1, model.heads.pooled_alone(1, model.maps(), entering))
    assert outputs.boxes[0].shape == (7, 4 * CLASSES)
    torch.testing.assert_close(outputs.boxes[1], moved(entering, later, model.target_stds[1]), atol=1e-3, rtol=0)


# Testing


def test_a_single_classifier_scores_the_proposals(framework):
    model, boxes = detector(framework, "decoupled_rcnn", 0.02), probe_boxes()[:7]
    model.model.eval()
    outputs = model.run_stages(boxes)
    with torch.no_grad():
        expected, _ = model.heads.stage_forward(0, model.heads.pooled_alone(0, model.maps(), boxes))
    assert (len(outputs.boxes), len(outputs.logits), outputs.last_logits) == (3, 1, [])
    assert torch.equal(outputs.logits[0], expected)
    assert [stage.label for stage in model.run.variant.test_stages] == ["(1,1)", "(2,1)", "(3,1)"]


def test_cascaded_classifiers_score_what_enters_their_stage(framework):
    model = detector(framework, "decoupled_rcnn", 0.02, classifiers=2)
    model.model.eval()
    outputs = model.run_stages(probe_boxes()[:7])
    for boxes, logits in ((outputs.boxes[0], outputs.logits[1]), (outputs.boxes[1], outputs.last_logits[1])):
        with torch.no_grad():
            expected, _ = model.heads.stage_forward(1, model.heads.pooled_alone(1, model.maps(), boxes))
        torch.testing.assert_close(logits, expected)
    assert (len(outputs.logits), len(outputs.last_logits)) == (2, 2)


# Options


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, [0.5, 0.5, 0.5]),
        ({"stages": 1}, [1.0]),
        ({"lambda": 2.0}, [2.0, 2.0, 2.0]),
        ({"stage_weights": "halved"}, [0.5, 0.25, 0.125]),
        ({"stage_weights": "halved", "lambda": 1.0}, [1.0, 0.5, 0.25]),
    ],
)
def test_weights_of_the_regression_losses(framework, options, weights):
    """They act on the loss, so on head and trunk alike; classification has weight 1."""
    model = detector(framework, "decoupled_rcnn", 0.02, **options)
    training = model.train(crowd(10, 20))
    for stage, weight in enumerate(weights):
        loss, call = training.losses[f"stage{stage + 1}_regression"], training.calls["regression", stage]
        plain = (call.values - call.targets)[call.positive].abs().sum() / len(call.rois)
        torch.testing.assert_close(loss, weight * plain)
        reached = [training.features[0], *model.of(f"heads.{stage + 1}.regression.")]
        for given, full in zip(gradients(loss, reached), gradients(plain, reached), strict=True):
            torch.testing.assert_close(given, weight * full)
    call = training.calls["classification", 0]
    entropy = torch.nn.functional.cross_entropy(call.values, call.labels)
    torch.testing.assert_close(training.losses["stage1_classification"], entropy)


@pytest.mark.parametrize("name", ["iou_thresholds", "target_statistics"])
def test_thresholds_and_deviations(framework, name):
    rule = "rising" if name == "iou_thresholds" else "constant"
    model = detector(framework, "decoupled_rcnn", **{name: rule})
    assert model.iou_thresholds == ([0.5, 0.6, 0.7] if name == "iou_thresholds" else [0.5] * 3)
    divisors = [1, 1, 1] if name == "target_statistics" else [1, 2, 3]
    assert [stds[0] for stds in model.target_stds] == pytest.approx([0.1 / one for one in divisors])


def test_layers_of_the_heads(framework):
    """Two branches, or shared layers in the first stage alone; convolutions before every regressor."""

    def parts(**options):
        names = detector(framework, "decoupled_rcnn", **options).names
        return {name.rpartition(".")[0] for name in names if name.startswith("heads.")}

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
    model = detector(framework, "decoupled_rcnn", double_head=True, stages=2)
    logits, deltas = model.heads.stage_forward(1, torch.randn(3, CHANNELS, 7, 7))
    assert logits is None and deltas.shape == (3, 4)


def test_later_weights_may_start_as_pytorch_draws_them(framework):
    common, pytorch = (detector(framework, "decoupled_rcnn", later_weights=rule) for rule in ("common", "pytorch"))
    differ = {name for name, drawn in pytorch.parameters.items() if not torch.equal(drawn, common.parameters[name])}
    assert differ == {f"heads.{stage}.regression.fc{layer}.{part}"
                      for stage in (2, 3) for layer in (1, 2) for part in ("weight", "bias")}  # fmt: skip
    for name in differ:
        fan_in = CHANNELS * 49 if "fc1" in name else WIDTH
        drawn = pytorch.parameters[name].detach()
        assert torch.equal(drawn, torch.from_numpy(pytorch_tensor(name, tuple(drawn.shape), fan_in, 0))), name
