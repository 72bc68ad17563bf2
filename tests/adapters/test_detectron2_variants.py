"""The variants with one stream of RoIs in Detectron2, odd batches, and the sizes that the papers print."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, pairwise_iou
from detectron2_inputs import CLASSES, SIZE, Watched, build, gradients_of, losses_of, maps, proposals, truth
from published_sizes import PUBLISHED, dense_flops, stage_flops, trainable

from adapters.detectron2.adapter import ADAPTER
from adapters.detectron2.config import detector_config
from adapters.detectron2.training import loss_name
from cascadebench.detectors.backbone import load_backbone
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.study.study_file import load_protocol


@pytest.fixture(scope="module")
def run(small_run):
    """Return a function that makes a run of a variant."""
    return lambda variant, **options: small_run("detectron2", variant, **options)


def detections(model, run, records) -> list:
    """Every number that prediction gives."""
    found = ADAPTER.predict(run, model.eval(), records)
    return [getattr(one, part).tobytes() for image in found for one in image.test_stages.values()
            for part in ("boxes", "scores", "labels")]  # fmt: skip


# FSCascade


@pytest.mark.parametrize("options", [{"cfs": False, "lfs": False}, {"cfs": False}], ids=["nothing", "lfs at its start"])
def test_fscascade_that_shares_nothing_is_cascade_rcnn(options, run, records):
    cascade, shared = run("cascade_rcnn"), run("fscascade", **options)
    models = build(cascade, noise=0.02), build(shared)
    missing, unexpected = models[1].load_state_dict(models[0].state_dict(), strict=False)
    assert all("embeddings" in name for name in missing) and not unexpected
    assert bool(missing) == ("lfs" not in options)
    losses = [losses_of(model, one, records[:3]) for model, one in zip(models, (cascade, shared), strict=True)]
    assert losses[0] == losses[1]
    gradients = [gradients_of(*pair) for pair in zip(models, losses, strict=True)]
    assert set(gradients[1]) - set(gradients[0]) == set(missing)
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())
    assert detections(models[0], cascade, records) == detections(models[1], shared, records)


@pytest.fixture(scope="module")
def sharing(run):
    """Return a function that gives the outputs of a stage on fixed pooled RoIs, and the heads; weights are equal."""
    full = build(run("fscascade", merge="concat"), noise=0.05)

    def forward(stage, **options):
        model = build(run("fscascade", **options))
        model.load_state_dict(full.state_dict(), strict=False)
        pooled = torch.randn(6, 64, 7, 7, generator=torch.Generator().manual_seed(0))
        return model.roi_heads.stage_forward(stage, pooled), model.roi_heads, pooled

    return forward


def test_each_way_of_sharing_changes_its_own_output(sharing):
    for stage in range(3):
        plain, _, _ = sharing(stage, cfs=False, lfs=False)
        classification, _, _ = sharing(stage, lfs=False)
        localization, _, _ = sharing(stage, cfs=False)
        both, _, _ = sharing(stage)
        assert torch.equal(classification[1], plain[1]) and torch.equal(localization[0], plain[0])
        assert torch.equal(both[0], classification[0]) and torch.equal(both[1], localization[1])
        assert torch.equal(classification[0], plain[0]) == torch.equal(localization[1], plain[1]) == (stage == 0)


@pytest.mark.parametrize("merge", ["mean", "sum", "concat"])
@pytest.mark.parametrize("embed", ["linear", "identity"])
def test_sharing_follows_its_equations(merge, embed, sharing):
    (logits, deltas), heads, pooled = sharing(2, merge=merge, embed=embed)
    own = [head(pooled) for head in heads.box_head]
    merged = {"mean": sum(own) / 3, "sum": sum(own)}.get(merge)
    if merge == "concat":
        merged = torch.cat(own, 1) @ heads.sharing.reductions["3"].weight.T
    torch.testing.assert_close(logits, heads.box_predictor[2].cls_score(merged))
    link = own[0]
    for stage in (1, 2):
        carried = link @ heads.sharing.embeddings[str(stage + 1)].weight.T if embed == "linear" else link
        link = own[stage] + carried
    torch.testing.assert_close(deltas, heads.box_predictor[2].bbox_pred(link))


def test_share_gradient_changes_gradients_alone(sharing):
    outputs, trained = [], []
    for share in (True, False):
        (logits, deltas), heads, _ = sharing(2, share_gradient=share)
        outputs.append((logits, deltas))
        parameters = [heads.box_head[0].fc1.weight, heads.sharing.embeddings["2"].weight, heads.box_head[2].fc1.weight]
        loss = logits.square().sum() + deltas.square().sum()
        trained.append(torch.autograd.grad(loss, parameters, allow_unused=True))
    assert all(torch.equal(*pair) for pair in zip(*outputs, strict=True))
    assert all(gradient.any() for gradient in trained[0])
    assert trained[1][0] is None and trained[1][1] is None
    assert torch.equal(trained[0][2], trained[1][2])


def test_later_classifiers_on_the_last_rois_merge_their_own_heads(run):
    heads = build(run("fscascade"), noise=0.05).eval().roi_heads
    with torch.no_grad():
        outputs = heads.run_stages(
            maps(heads), proposals(4, 4).proposal_boxes.tensor, SIZE, [TestStage.parse("(3,1-3) last RoIs")]
        )
        own = [head(heads.pooled_alone(2, maps(heads), outputs.boxes[1])) for head in heads.box_head]
        for stage in range(3):
            merged = torch.stack(own[: stage + 1]).sum(0) / (stage + 1)
            torch.testing.assert_close(outputs.last_logits[stage], heads.box_predictor[stage].cls_score(merged))


@pytest.mark.parametrize(("options", "added"), [
    ({}, 2), ({"embed": "identity"}, 0), ({"lfs": False}, 0), ({"cfs": False}, 2), ({"cfs": False, "lfs": False}, 0),
    ({"lfs": False, "merge": "concat"}, 2 + 3), ({"merge": "concat"}, 2 + 2 + 3), ({"stages": 2}, 1),
])  # fmt: skip
def test_parameters_that_sharing_adds(options, added, coco):
    both = coco("fscascade", **options), coco("cascade_rcnn", stages=options.get("stages", 3))
    shared, plain = (trainable(without_numbers(one)) for one in both)
    assert shared - plain == added * 1024**2


# Cascade R-CNN


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_ablations_of_the_cascade(stages, run):
    heads = build(run("cascade_rcnn", stages=stages)).roi_heads
    thresholds = [matcher.thresholds[1] for matcher in heads.proposal_matchers]
    assert thresholds == [0.5, 0.6, 0.7, 0.75][:stages] and heads.proposal_matcher.thresholds[1] == 0.5
    for number, predictor in enumerate(heads.box_predictor, start=1):
        wanted = [10 * number, 10 * number, 5 * number, 5 * number]
        assert list(predictor.box2box_transform.weights) == pytest.approx(wanted)
        assert predictor.loss_weight == {"loss_cls": 1.0, "loss_box_reg": 1.0}
    assert heads.trunk_gradient == [1.0, 0.5, 0.25, 0.125][:stages]
    assert len(heads.box_head) == len(heads.box_predictor) == heads.regressors == heads.classifiers == stages
    constant = {"iou_thresholds": "constant", "target_statistics": "constant", "stage_loss": "avg"}
    heads = build(run("cascade_rcnn", stages=stages, **constant)).roi_heads
    assert [matcher.thresholds[1] for matcher in heads.proposal_matchers] == [0.5] * stages
    assert [list(one.box2box_transform.weights) for one in heads.box_predictor] == [[10, 10, 5, 5]] * stages
    assert heads.trunk_gradient == [1 / stages] * stages


@pytest.mark.parametrize("stage_loss", ["decay", "avg"])
def test_a_stages_weight_scales_the_trunks_gradient_and_not_the_heads(stage_loss, run):
    heads = build(run("cascade_rcnn", stage_loss=stage_loss), noise=0.02).roi_heads
    features = maps(heads)
    reached = []
    for shares in (heads.trunk_gradient, [1.0] * 3):
        heads.trunk_gradient = shares
        losses = Watched(heads, features, [proposals(10, 10)]).losses
        wanted = [features["p2"], *(head.fc1.weight for head in heads.box_head)]
        terms = [losses[f"loss_cls_stage{stage}"] for stage in range(3)]
        reached.append([torch.autograd.grad(term, wanted, allow_unused=True, retain_graph=True) for term in terms])
    for stage, (scaled, full) in enumerate(zip(*reached, strict=True)):
        share = 0.5**stage if stage_loss == "decay" else 1 / 3
        torch.testing.assert_close(scaled[0], share * full[0])
        assert torch.equal(scaled[1 + stage], full[1 + stage])


# Faster R-CNN's relatives


def test_iterative_bbox_is_the_baseline_applied_again(run, records):
    faster, iterative = run("faster_rcnn"), run("iterative_bbox", applications=4)
    models = build(faster, noise=0.02), build(iterative)
    models[1].load_state_dict(models[0].state_dict())
    assert losses_of(models[0], faster, records[:2]) == losses_of(models[1], iterative, records[:2])
    first, again = (list(ADAPTER.predict(one, model.eval(), records[:2]))
                    for one, model in zip((faster, iterative), models, strict=True))  # fmt: skip
    for one, other in zip(first, again, strict=True):
        assert len(other.test_stages) == 10 + 3
        for part in ("boxes", "scores", "labels"):
            given = [getattr(prediction.test_stages["(1,1)"], part) for prediction in (one, other)]
            assert len(given[0]) and given[0].tobytes() == given[1].tobytes()
    heads, features = models[1].roi_heads, maps(models[1].roi_heads)
    entering = proposals(5, 5).proposal_boxes.tensor
    with torch.no_grad():
        outputs = heads.run_stages(features, entering, SIZE, iterative.variant.test_stages)
        for boxes, logits in zip(outputs.boxes, outputs.logits, strict=True):
            alone = heads.run_stages(features, entering, SIZE, [])
            assert torch.equal(alone.boxes[0], boxes) and torch.equal(alone.logits[0], logits)
            entering = boxes
    assert all(torch.equal(one, outputs.logits[-1]) for one in outputs.last_logits)


def test_integral_loss_labels_one_sample_by_every_threshold(run):
    heads = build(run("integral_loss"), noise=0.02).roi_heads
    watched = Watched(heads, maps(heads, 2), [proposals(20, 20, spread=14), proposals(10, 30, 1, spread=14)])
    boxes, first = watched.rois("loss_cls", 0)
    best = pairwise_iou(Boxes(boxes), truth().gt_boxes).max(1).values
    positives = []
    for stage, threshold in enumerate((0.5, 0.6, 0.7)):
        same, labels = watched.rois("loss_cls", stage)
        assert torch.equal(same, boxes)
        assert torch.equal(labels, torch.where(best >= threshold, first, CLASSES))
        positives.append(int((labels < CLASSES).sum()))
    assert positives[0] > positives[1] > positives[2] > 0
    assert [stage for term, stage in watched.entered if term == "loss_box_reg"] == [0]
    assert {loss_name(name) for name in watched.losses} == {
        "stage1_classification", "stage2_classification", "stage3_classification", "stage1_regression",
    }  # fmt: skip
    assert [one.bbox_pred is None for one in heads.box_predictor] == [False, True, True]
    names = {ADAPTER.common_name(f"roi_heads.{name}") for name in heads.state_dict()}
    assert {name.rpartition(".")[0] for name in names} == {
        "heads.1.fc1", "heads.1.fc2", "heads.1.regressor", *(f"heads.{j}.classifier" for j in (1, 2, 3)),
    }  # fmt: skip


def test_integral_loss_runs_its_layers_once(run):
    heads = build(run("integral_loss"), noise=0.02).eval().roi_heads
    calls = []
    heads.box_head[0].register_forward_hook(lambda *_given: calls.append(1))
    with torch.no_grad():
        entering = proposals(3, 3).proposal_boxes.tensor
        outputs = heads.run_stages(maps(heads), entering, SIZE, run("integral_loss").variant.test_stages)
        pooled = heads.pooled_alone(0, maps(heads), entering)
        assert len(calls) == 1 and (len(outputs.boxes), outputs.last_logits) == (1, [])
        for stage, logits in enumerate(outputs.logits):
            assert torch.equal(logits, heads.stage_forward(stage, pooled)[0])


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7])
def test_threshold_of_the_baseline(threshold, run):
    heads = build(run("faster_rcnn", iou_threshold=threshold)).roi_heads
    boxes, labels = Watched(heads, maps(heads), [proposals(30, 5, spread=14)]).rois("loss_cls", 0)
    best = pairwise_iou(Boxes(boxes), truth().gt_boxes).max(1).values
    positive = labels < CLASSES
    assert torch.equal(positive, best >= threshold) and positive.any() and (best[~positive] > 0.3).any()


def test_unshared_heads_learn_apart(run):
    heads = build(run("faster_rcnn", heads="unshared"), noise=0.02).roi_heads
    losses = Watched(heads, maps(heads), [proposals(10, 10)]).losses
    branches = heads.box_head[0]
    for term, own, other in (
        ("loss_cls", branches.classification, branches.regression),
        ("loss_box_reg", branches.regression, branches.classification),
    ):
        given = [torch.autograd.grad(losses[f"{term}_stage0"], list(one.parameters()), retain_graph=True,
                                     allow_unused=True) for one in (own, other)]  # fmt: skip
        assert all(gradient.any() for gradient in given[0]) and given[1] == (None,) * 4


# Odd batches


@pytest.mark.parametrize(("variant", "options"), [
    ("faster_rcnn", {}), ("faster_rcnn", {"nms_reg": 0.8, "regression": "class_specific"}), ("cascade_rcnn", {}),
    ("fscascade", {}), ("iterative_bbox", {}), ("integral_loss", {}), ("decoupled_rcnn", {}),
    ("decoupled_rcnn", {"classifiers": 3, "regression": "class_specific"}),
    ("decoupled_rcnn", {"double_head": True, "stages": 2}),
])  # fmt: skip
def test_images_without_ground_truth_positives_or_proposals(variant, options, run, records):
    one = run(variant, **options)
    model = build(one, noise=0.01)
    outside = dataclasses.replace(records[0], boxes=np.array([[-30, -30, -10, -10]], np.float32), labels=np.array([1]))
    empty = records[5]
    assert len(empty.boxes) == 0
    names = set(losses_of(model, one, records[:2]))
    for batch in ([empty, empty], [empty, records[1]], [outside, outside]):
        losses = losses_of(model, one, batch)
        assert set(losses) == names
        assert all(gradient.isfinite().all() for gradient in gradients_of(model, losses).values())
    model.proposal_generator.min_box_size = 1e6  # no proposals
    for batch in (records[:2], [empty, empty]):
        losses = losses_of(model, one, batch)
        assert set(losses) == names and all(torch.isfinite(loss) for loss in losses.values())
        assert all(gradient.isfinite().all() for gradient in gradients_of(model, losses).values())
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    (found,) = ADAPTER.predict(one, model.eval(), records[:1])
    assert all(len(stage.scores) == 0 for stage in found.test_stages.values())
    model.proposal_generator.min_box_size = 0.0
    for prediction in ADAPTER.predict(one, model.eval(), [records[0], empty]):
        assert list(prediction.test_stages) == [stage.label for stage in one.variant.test_stages]
        assert all(len(stage.scores) for stage in prediction.test_stages.values())


# Sizes that are printed


@pytest.fixture(scope="module")
def coco(run):
    """Return a function that makes a run with 80 classes, a large backbone and the protocol coco_1x."""

    def make(variant, backbone="resnet50", **options):
        small = run(variant, **options)
        dataset = small.dataset.model_copy(update={"categories": tuple(f"category {n}" for n in range(80))})
        protocol = load_protocol("coco_1x", {}, "test")
        update = {"dataset": dataset, "protocol": protocol, "backbone": load_backbone(backbone)}
        return small.model_copy(update=update)

    return make


def without_numbers(run) -> GeneralizedRCNN:
    """Build a detector that has shapes alone."""
    with torch.device("meta"):
        return instantiate(detector_config(run)).eval()


@pytest.fixture(scope="module")
def trunk_flops(coco):
    """Return a function that gives the operations of backbone, neck and RPN."""

    @functools.cache
    def count(backbone):
        run = coco("faster_rcnn", backbone)
        return dense_flops(ADAPTER, without_numbers(run), run)

    return count


@pytest.mark.parametrize(("backbone", "variant", "options", "millions", "gflops"), PUBLISHED)
def test_printed_parameters_and_operations(backbone, variant, options, millions, gflops, coco, trunk_flops):
    run = coco(variant, backbone, **options)
    model = without_numbers(run)
    assert round(trainable(model) / 1e6, 2) == millions
    found = trunk_flops(backbone) + stage_flops(ADAPTER, model, model.roi_heads, run)
    assert found / 1e9 == pytest.approx(gflops, rel=0.01)
