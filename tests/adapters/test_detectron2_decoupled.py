"""RoIs of their own for classification and regression in Detectron2: Decoupled R-CNN, Faster R-CNN with two lists."""

import pytest
import torch
from trainings import changed

pytest.importorskip("detectron2")

from detectron2.modeling.roi_heads import roi_heads as detectron2_roi_heads
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage
from detectron2_inputs import CLASSES, SIZE, Watched, build, maps, proposals, truth
from torchvision.ops import nms

from adapters.detectron2.training import loss_name
from adapters.layers.convolution_branch import ConvolutionBranch


@pytest.fixture(scope="module")
def run(small_run):
    """Return a function that makes a run of a variant."""
    return lambda variant="decoupled_rcnn", **options: small_run("detectron2", variant, **options)


@pytest.fixture(scope="module")
def heads(run):
    """Decoupled R-CNN's RoI heads with its default options and noise on the weights."""
    return build(run(), noise=0.02).roi_heads


@pytest.fixture(scope="module")
def pairs():
    """Two lists of proposals for each of two images."""
    return [(proposals(6, 30, 1), proposals(9, 40, 2)), (proposals(4, 20, 3), proposals(5, 25, 4))]


@pytest.fixture(scope="module")
def watched(heads, pairs):
    """One training of the RoI heads."""
    return Watched(heads, maps(heads, 2), pairs)


# Proposals


@pytest.mark.parametrize(("variant", "options", "thresholds"), [
    ("decoupled_rcnn", {}, [0.7, 0.85]), ("decoupled_rcnn", {"nms_cls": 0.5, "nms_reg": 0.95}, [0.5, 0.95]),
    ("faster_rcnn", {"nms_cls": 0.6}, [0.6, 0.7]), ("faster_rcnn", {"nms_reg": 0.9}, [0.7, 0.9]),
])  # fmt: skip
def test_training_has_two_lists_of_the_same_candidates(variant, options, thresholds, run):
    one = run(variant, **options)
    generator = build(one).proposal_generator
    random = torch.Generator().manual_seed(0)
    corner = 60 * torch.rand(400, 2, generator=random)
    boxes = torch.cat([corner, corner + 20 + 30 * torch.rand(400, 2, generator=random)], 1)
    scores = torch.randn(1, 400, generator=random)
    given = [Boxes(boxes)], [scores], [torch.zeros(1, 400, 4)], [SIZE]
    best = scores[0].topk(one.protocol.rpn.train_pre_nms).indices
    ((classification, regression),) = generator.train().predict_proposals(*given)
    for found, threshold in ((classification, thresholds[0]), (regression, thresholds[1])):
        kept = best[nms(boxes[best], scores[0, best], threshold)][: one.protocol.rpn.train_post_nms]
        torch.testing.assert_close(found.proposal_boxes.tensor, boxes[kept], rtol=0, atol=1e-4)
        overlaps = pairwise_iou(found.proposal_boxes, found.proposal_boxes).fill_diagonal_(0)
        assert threshold - 0.1 < float(overlaps.max()) <= threshold
    (tested,) = generator.eval().predict_proposals(*given)
    kept = nms(boxes[best], scores[0, best], one.protocol.rpn.nms_iou)[: one.protocol.rpn.test_post_nms]
    torch.testing.assert_close(tested.proposal_boxes.tensor, boxes[best[kept]], rtol=0, atol=1e-4)


# Samples


def sampled(heads, given: list) -> list[tuple[Instances, Instances]]:
    """Sample the proposals of images that all have the same ground truth."""
    torch.manual_seed(0)
    with EventStorage():
        return heads.label_and_sample_proposals(given, [truth() for _ in given])


def has_truth(rois: Instances) -> bool:
    """Whether a ground truth box is among RoIs."""
    return bool((pairwise_iou(truth().gt_boxes, rois.proposal_boxes) > 0.9999).any())


def positives(rois: Instances) -> int:
    """Number of positive RoIs."""
    return int((rois.gt_classes < CLASSES).sum())


@pytest.mark.parametrize("number", [64, 512])
def test_samples_of_the_two_tasks(number, run):
    heads = build(changed(run(), heads={"rois_per_image": number})).roi_heads
    many, few = proposals(number + 26, number + 16, 5), proposals(10, number + 16, 6)
    ((classification, regression),) = sampled(heads, [(many, many)])
    assert (positives(classification), len(classification)) == (number // 4, number)
    assert (positives(regression), len(regression)) == (number, number)
    ((classification, regression),) = sampled(heads, [(few, few)])
    assert positives(classification) == 10 + len(truth()) and has_truth(classification)
    assert (positives(regression), len(regression)) == (10, number) and not has_truth(regression)
    sparse = proposals(3, 5, 7)
    ((_, regression),) = sampled(heads, [(sparse, sparse)])
    assert (positives(regression), len(regression)) == (3, 8)
    first, again = (sampled(heads, [(many, many)])[0][1].proposal_boxes.tensor for _ in range(2))
    assert torch.equal(first, again)
    chosen = {tuple(row) for row in first.tolist()}
    assert chosen != {tuple(row) for row in many.proposal_boxes.tensor[:number].tolist()}  # a random choice


def test_ground_truth_may_join_the_regression_rois(run):
    heads = build(run(regression_ground_truth=True)).roi_heads
    few = proposals(10, 80, 6)
    ((_, regression),) = sampled(heads, [(few, few)])
    assert positives(regression) == 10 + len(truth()) and has_truth(regression)


def test_faster_rcnn_samples_both_tasks_alike(run, pairs):
    heads = build(run("faster_rcnn", nms_reg=0.9), noise=0.02).roi_heads
    many = proposals(90, 80, 5)
    ((classification, regression),) = sampled(heads, [(many, many)])
    assert positives(classification) == positives(regression) == 16
    assert len(classification) == len(regression) == 64
    watched = Watched(heads, maps(heads, 2), pairs)
    for term, task, rois in (("loss_cls", 0, 36 + 24 + 4), ("loss_box_reg", 1, 49 + 30 + 4)):
        boxes, _ = watched.rois(term, 0)
        assert len(boxes) == rois
        own = torch.cat([pair[task].proposal_boxes.tensor for pair in pairs])
        assert in_rows(own, boxes) == len(own)
    assert {loss_name(name) for name in watched.losses} == {"stage1_classification", "stage1_regression"}
    torch.testing.assert_close(watched.losses["loss_box_reg_stage0"], l1_over_all(heads, watched, 0))


def in_rows(rows: torch.Tensor, among: torch.Tensor) -> int:
    """How many of some rows [N, 4] are rows of another tensor [M, 4]."""
    return int((rows[:, None] == among[None]).all(2).any(1).sum())


def test_order_of_the_draws(heads, monkeypatch):
    sizes = []
    plain = detectron2_roi_heads.subsample_labels

    def noting(labels, *more):
        sizes.append(len(labels))
        return plain(labels, *more)

    monkeypatch.setattr(detectron2_roi_heads, "subsample_labels", noting)
    sampled(heads, [(proposals(1, 2), proposals(1, 3)), (proposals(1, 4), proposals(1, 5))])
    assert sizes == [3 + 2, 4, 5 + 2, 6]  # classification before regression, image by image


# Training


def l1_over_all(heads, watched: Watched, stage: int) -> torch.Tensor:
    """The regression loss of a stage, written out: distances of the positives over the number of all RoIs."""
    predictor = heads.box_predictor[stage]
    deltas, rois = watched.entered["loss_box_reg", stage]
    boxes, labels = watched.rois("loss_box_reg", stage)
    targets = torch.cat([one.gt_boxes.tensor for one in rois])
    wanted = predictor.box2box_transform.get_deltas(boxes, targets)
    positive = labels < CLASSES
    return predictor.loss_weight["loss_box_reg"] * (deltas - wanted)[positive].abs().sum() / len(labels)


def test_loss_terms(watched):
    assert {loss_name(name) for name in watched.losses} == {
        "stage1_classification", "stage1_regression", "stage2_regression", "stage3_regression",
    }  # fmt: skip


def test_negatives_have_no_weight_and_count_in_the_divisor(heads, watched):
    for stage in range(3):
        deltas, _ = watched.entered["loss_box_reg", stage]
        _, labels = watched.rois("loss_box_reg", stage)
        assert len(labels) == 49 + 30
        loss = watched.losses[f"loss_box_reg_stage{stage}"]
        torch.testing.assert_close(loss, l1_over_all(heads, watched, stage))
        (gradient,) = torch.autograd.grad(loss, deltas, retain_graph=True)
        positive = labels < CLASSES
        assert positive.any() and not gradient[~positive].any() and gradient[positive].any(1).all()


def test_each_branch_learns_from_its_own_rois(heads, watched):
    first = heads.box_head[0]
    branches = {
        "loss_cls_stage0": first.classification,
        "loss_box_reg_stage0": first.regression,
        "loss_box_reg_stage1": heads.box_head[1],
        "loss_box_reg_stage2": heads.box_head[2],
    }
    for name, loss in watched.losses.items():
        for owner, branch in branches.items():
            gradients = torch.autograd.grad(loss, list(branch.parameters()), retain_graph=True, allow_unused=True)
            if owner == name:
                assert all(gradient.any() for gradient in gradients)
            else:
                assert gradients == (None,) * 4


def test_later_stages_move_positives_and_leave_negatives(heads, watched):
    for stage in (0, 1):
        boxes, labels = watched.rois("loss_box_reg", stage)
        after, again = watched.rois("loss_box_reg", stage + 1)
        deltas, _ = watched.entered["loss_box_reg", stage]
        moved = heads.box_predictor[stage].box2box_transform.apply_deltas(deltas.detach(), boxes).clamp(0, 128)
        expected = torch.where((labels < CLASSES)[:, None], moved, boxes)
        torch.testing.assert_close(after, expected)
        assert not after.requires_grad and not torch.equal(after, boxes)
        matched = pairwise_iou(truth().gt_boxes, Boxes(after)).max(0).values >= 0.5
        assert torch.equal(again < CLASSES, matched)


def test_empty_boxes_are_dropped(heads):
    heads.train()
    box = [0.0, 0.0, 40.0, 40.0]
    (left,) = heads._entering([torch.tensor([box, [-20.0, 0.0, -5.0, 30.0], [130.0, 5.0, 150.0, 9.0]])], [truth()])
    assert left.proposal_boxes.tensor.tolist() == [box]


def test_cascaded_classifiers_train_on_all_rois_that_the_regressors_moved(run, pairs):
    heads = build(run(classifiers=3, iou_thresholds="rising"), noise=0.02).roi_heads
    watched = Watched(heads, maps(heads, 2), pairs)
    assert {name for name in watched.losses if "cls" in name} == {f"loss_cls_stage{stage}" for stage in range(3)}
    levels = list(maps(heads, 2).values())
    for stage, threshold in enumerate((0.6, 0.7)):
        _, before = watched.entered["loss_cls", stage]
        with torch.no_grad():
            pooled = heads.box_pooler(levels, [one.proposal_boxes for one in before])
            deltas = heads.box_predictor[stage].bbox_pred(heads.box_head[stage].regression(pooled))
        boxes, _ = watched.rois("loss_cls", stage)
        moved = heads.box_predictor[stage].box2box_transform.apply_deltas(deltas, boxes).clamp(0, 128)
        after, labels = watched.rois("loss_cls", stage + 1)
        torch.testing.assert_close(after, moved)
        best = pairwise_iou(truth().gt_boxes, Boxes(after)).max(0).values
        assert torch.equal(labels < CLASSES, best >= threshold)
    for stage in range(3):
        loss = watched.losses[f"loss_cls_stage{stage}"]
        regression = list(heads.box_head[stage].regression.parameters())
        assert torch.autograd.grad(loss, regression, retain_graph=True, allow_unused=True) == (None,) * 4


@pytest.mark.parametrize("options", [{}, {"classifiers": 2}])
def test_the_highest_foreground_class_says_which_box_enters_the_second_stage(options, run, pairs):
    one = run(regression="class_specific", **options)
    heads = build(one, noise=0.02).roi_heads
    assert [predictor.bbox_pred.out_features for predictor in heads.box_predictor] == [4 * CLASSES, 4, 4]
    watched = Watched(heads, maps(heads, 2), pairs)
    levels = list(maps(heads, 2).values())
    for term in ("loss_box_reg", "loss_cls")[: 1 + bool(options)]:
        _, before = watched.entered[term, 0]
        boxes, labels = watched.rois(term, 0)
        with torch.no_grad():
            logits, deltas = heads.stage_forward(0, heads.box_pooler(levels, [part.proposal_boxes for part in before]))
        moved = moved_by_class(heads, boxes, logits, deltas).clamp(0, 128)
        if term == "loss_box_reg":
            moved = torch.where((labels < CLASSES)[:, None], moved, boxes)
        torch.testing.assert_close(watched.rois(term, 1)[0], moved)
    heads.eval()
    with torch.no_grad():
        features, entering = maps(heads), pairs[0][0]
        outputs = heads.run_stages(features, entering.proposal_boxes.tensor, SIZE, one.variant.test_stages)
        logits, deltas = heads.stage_forward(0, heads.box_pooler(list(features.values()), [entering.proposal_boxes]))
        chosen = moved_by_class(heads, entering.proposal_boxes.tensor, logits, deltas).clamp(0, 128)
        pooled = heads.box_pooler(list(features.values()), [Boxes(chosen)])
        second = heads.box_predictor[1].box2box_transform.apply_deltas(heads.stage_forward(1, pooled)[1], chosen)
    assert outputs.boxes[0].shape == (len(entering), 4 * CLASSES)
    torch.testing.assert_close(outputs.boxes[1], second.clamp(0, 128))


def moved_by_class(heads, boxes: torch.Tensor, logits: torch.Tensor, deltas: torch.Tensor) -> torch.Tensor:
    """Boxes moved by the deltas of the class, background apart, with the highest score; written out row by row."""
    chosen = [row[4 * int(scores[:-1].argmax()) :][:4] for row, scores in zip(deltas, logits, strict=True)]
    return heads.box_predictor[0].box2box_transform.apply_deltas(torch.stack(chosen), boxes)


# Testing


def test_the_single_classifier_scores_the_proposals(heads, run):
    heads.eval()
    features, entering = maps(heads), proposals(5, 20)
    with torch.no_grad():
        outputs = heads.run_stages(features, entering.proposal_boxes.tensor, SIZE, run().variant.test_stages)
        pooled = heads.box_pooler(list(features.values()), [entering.proposal_boxes])
        logits = heads.box_predictor[0].cls_score(heads.box_head[0].classification(pooled))
    assert len(outputs.boxes) == 3 and outputs.last_logits == []
    assert len(outputs.logits) == 1 and torch.equal(outputs.logits[0], logits)
    for stage in (1, 2):
        assert heads.box_head[stage].classification is None and heads.box_predictor[stage].cls_score is None


def test_cascaded_classifiers_score_what_enters_their_stage(run):
    one = run(classifiers=2)
    heads = build(one, noise=0.02).eval().roi_heads
    features, entering = maps(heads), proposals(5, 20).proposal_boxes.tensor
    with torch.no_grad():
        outputs = heads.run_stages(features, entering, SIZE, one.variant.test_stages)
        for boxes, found in ((outputs.boxes[0], outputs.logits[1]), (outputs.boxes[1], outputs.last_logits[1])):
            pooled = heads.box_pooler(list(features.values()), [Boxes(boxes)])
            torch.testing.assert_close(found, heads.stage_forward(1, pooled)[0])
    assert (len(outputs.logits), len(outputs.last_logits)) == (2, 2)


# Options


@pytest.mark.parametrize(("options", "factors"), [
    ({}, [0.5, 0.5, 0.5]), ({"stages": 1}, [1.0]), ({"lambda": 2.0}, [2.0, 2.0, 2.0]),
    ({"stage_weights": "halved"}, [0.5, 0.25, 0.125]), ({"stage_weights": "halved", "lambda": 1.0}, [1.0, 0.5, 0.25]),
])  # fmt: skip
def test_weights_of_the_regression_losses(options, factors, run, pairs):
    heads = build(run(**options), noise=0.02).roi_heads
    features = maps(heads, 2)
    watched = Watched(heads, features, pairs)
    for stage, factor in enumerate(factors):
        loss = watched.losses[f"loss_box_reg_stage{stage}"]
        plain = l1_over_all(heads, watched, stage) / heads.box_predictor[stage].loss_weight["loss_box_reg"]
        torch.testing.assert_close(loss, factor * plain)
        # The factor acts on the head and on the trunk alike.
        wanted = [features["p2"], *heads.box_head[stage].regression.parameters()]
        gradients = (torch.autograd.grad(one, wanted, retain_graph=True) for one in (loss, plain))
        for found, full in zip(*gradients, strict=True):
            torch.testing.assert_close(found, factor * full)
    assert heads.box_predictor[0].loss_weight["loss_cls"] == 1.0 and set(heads.trunk_gradient) == {1.0}


def test_thresholds_and_deviations(run):
    for options, thresholds, first_weights in (
        ({}, [0.5, 0.5, 0.5], [10, 20, 30]),
        ({"iou_thresholds": "rising", "target_statistics": "constant"}, [0.5, 0.6, 0.7], [10, 10, 10]),
    ):
        heads = build(run(**options)).roi_heads
        assert [matcher.thresholds[1] for matcher in heads.proposal_matchers] == thresholds
        assert heads.regression_sampler.proposal_matcher.thresholds[1] == thresholds[0]
        weights = [one.box2box_transform.weights[0] for one in heads.box_predictor]
        assert weights == pytest.approx(first_weights)


def test_layers_of_the_heads(run):
    names = set(build(run(stages=2)).roi_heads.state_dict())
    shared = set(build(run(stages=2, heads="shared")).roi_heads.state_dict())
    own = {f"box_head.0.{task}.fc{n}.{part}" for task in ("classification", "regression") for n in (1, 2)
           for part in ("weight", "bias")}  # fmt: skip
    assert names - shared == own
    assert shared - names == {f"box_head.0.fc{n}.{part}" for n in (1, 2) for part in ("weight", "bias")}
    double = build(run(stages=2, double_head=True)).roi_heads
    assert [type(head.regression) for head in double.box_head] == [ConvolutionBranch] * 2
    assert {name for name in double.state_dict() if ".classification." in name} == {
        name for name in own if ".classification." in name
    }
    pooled = torch.randn(3, 64, 7, 7)
    assert double.box_head[1](pooled)[0] is None and double.box_head[1](pooled)[1].shape == (3, 128)


def test_weights_of_later_stages_may_start_as_pytorch_draws_them(run):
    common, pytorch = (build(run(later_weights=rule)).roi_heads.state_dict() for rule in ("common", "pytorch"))
    differ = {name for name in common if not torch.equal(common[name], pytorch[name])}
    assert differ == {f"box_head.{stage}.regression.fc{n}.{part}" for stage in (1, 2) for n in (1, 2)
                      for part in ("weight", "bias")}  # fmt: skip
    for name in differ:
        fan_in = pytorch[name.replace("bias", "weight")].shape[1]
        assert 0.9 < float(pytorch[name].abs().max()) * fan_in**0.5 <= 1
