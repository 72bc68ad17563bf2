"""Instance masks: from segmentations to what a branch learns, and from its probabilities to the detections file."""

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from comparison import answers_of_both, assert_agreement, ground_truth, two_images
from drawn_images import few_shapes
from sides import SIDES, bitmaps
from trainings import changed, control_values, log_of, trained, trained_model

import adapters.mmdet  # noqa: F401 (before MMDetection: it provides mmcv's operators)

# isort: split
from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.structures import BitMasks
from mmdet.structures.mask import BitmapMasks

from adapters.commands import initial_model, load_adapter
from adapters.inspection.cost import cost_of
from adapters.inspection.probe_inputs import probe_bitmaps, probe_boxes
from adapters.layers.instance_masks import (
    MASK_SIZE,
    mask_loss,
    mask_targets,
    mean_probabilities,
    pasted,
    record_bitmaps,
)
from adapters.prediction.prediction_files import detection_columns
from cascadebench.controls.definitions import CONTROLS
from cascadebench.core.errors import InputError
from cascadebench.datasets.masks import bitmap, encoded, encoded_bitmap, problem_with
from cascadebench.datasets.prepared import ImageRecord, load_split
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.metrics.coco.detections import read_detections, write_detections
from cascadebench.study.stage_settings import stage_settings
from cascadebench.study_loading import load_study


def ellipse(width: int, height: int, box) -> np.ndarray:
    """The ellipse in a box, bool [height, width]."""
    return bitmaps(torch.tensor([box]), height, width)[0].numpy().astype(bool)


@pytest.fixture
def record() -> ImageRecord:
    """An image of 40 x 30 pixels without a picture: a polygon, two polygons, and an ellipse as run lengths."""
    segmentations = (
        [np.array([10.0, 5.0, 20.0, 5.0, 20.0, 25.0, 10.0, 25.0])],
        [np.array([0.0, 0.0, 8.0, 0.0, 0.0, 8.0]), np.array([2.0, 20.0, 8.0, 20.0, 8.0, 28.0])],
        {"size": [30, 40], "counts": encoded_bitmap(ellipse(40, 30, (22, 4, 38, 28)))},
    )
    boxes = np.array([[10, 5, 20, 25], [0, 0, 8, 28], [22, 4, 38, 28]], np.float32)
    return ImageRecord(1, Path("none.png"), 40, 30, boxes, np.array([0, 1, 2]), segmentations)


@pytest.fixture(scope="module")
def masked_records(records) -> list[ImageRecord]:
    """The drawn images with a mask for every rectangle: a polygon, and run lengths for every second one."""
    found = []
    for one in records:
        run_lengths = [encoded([polygon.tolist()], one.width, one.height) for (polygon,) in one.segmentations[1:]]
        found.append(replace(one, segmentations=(*one.segmentations[:1], *run_lengths)))
    return found


# From segmentations to bitmaps


def test_bitmaps_are_scaled_and_mirrored_with_the_boxes(record):
    plain = record_bitmaps(record, 120, 90, flip=False)
    assert plain.shape == (3, 90, 120) and plain.dtype == np.uint8
    assert np.array_equal(record_bitmaps(record, 120, 90, flip=True), plain[:, :, ::-1])
    for drawn, box in zip(plain, 3 * record.boxes, strict=True):
        rows, columns = np.nonzero(drawn)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert edges == pytest.approx(box, abs=3)  # of run lengths three pixels are one
    assert plain[0].sum() == 30 * 60
    assert plain[1].sum() == pytest.approx(9 * (32 + 24), rel=0.03)
    larger = ellipse(120, 90, (66, 12, 114, 84))
    assert (plain[2] != larger).sum() < 0.05 * larger.sum()


def test_bitmaps_of_the_original_size_are_the_segmentations(record):
    found = record_bitmaps(record, 40, 30, flip=False)
    for drawn, segmentation in zip(found, record.segmentations, strict=True):
        assert np.array_equal(drawn, bitmap(segmentation, 40, 30))
    assert record_bitmaps(replace(record, segmentations=()), 40, 30, flip=True).shape == (0, 30, 40)


# Targets and loss


def test_targets_are_those_of_both_frameworks():
    truth = torch.tensor([[10.0, 12.0, 60.0, 70.0], [70.0, 20.0, 120.0, 90.0], [5.0, 90.0, 30.0, 125.0]])
    drawn = bitmaps(truth, 128, 128)
    boxes, matched = probe_boxes(60), torch.arange(60) % 3
    found = mask_targets(drawn, boxes, matched)
    assert found.shape == (60, MASK_SIZE, MASK_SIZE) and set(found.unique().tolist()) == {0.0, 1.0}
    theirs = BitMasks(drawn[matched].bool()).crop_and_resize(boxes, MASK_SIZE)
    assert torch.equal(found.bool(), theirs)
    theirs = BitmapMasks(drawn.numpy(), 128, 128).crop_and_resize(
        boxes.numpy(), (MASK_SIZE, MASK_SIZE), matched.numpy(), device="cpu"
    )
    assert np.array_equal(found.numpy(), theirs.to_ndarray())


def test_the_target_of_a_box_that_its_mask_fills_is_all_ones():
    boxes = torch.tensor([[16.0, 16.0, 44.0, 72.0]])
    assert mask_targets(probe_bitmaps(boxes), boxes, torch.zeros(1).long()).min() == 1
    left_half = torch.tensor([[2.0, 16.0, 30.0, 72.0]])
    found = mask_targets(probe_bitmaps(boxes), left_half, torch.zeros(1).long())[0]
    assert found[:, :14].max() == 0 and found[:, 14:].min() == 1


def test_loss_is_the_mean_over_pixels_and_rois_of_the_own_class():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, MASK_SIZE, MASK_SIZE, generator=random).requires_grad_()
    labels = torch.tensor([2, 0, 2])
    targets = (torch.rand(3, MASK_SIZE, MASK_SIZE, generator=random) > 0.5).float()
    loss = mask_loss(logits, labels, [targets])
    own = torch.stack([logits[row, label] for row, label in enumerate(labels.tolist())]).sigmoid()
    expected = -(targets * own.log() + (1 - targets) * (1 - own).log()).sum() / (3 * 28 * 28)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    other = logits.grad.abs().sum(dim=(2, 3)) > 0
    assert other.tolist() == [[False, False, True, False], [True, False, False, False], [False, False, True, False]]


def test_a_loss_without_rois_is_zero_and_has_a_gradient():
    weight = torch.ones(1, requires_grad=True)
    loss = mask_loss(weight * torch.zeros(0, 4, 28, 28), torch.zeros(0).long(), [])
    loss.backward()
    assert loss.item() == 0 and weight.grad.tolist() == [0]


def test_branches_are_averaged_as_probabilities():
    first, second = torch.full((2, 3, 28, 28), -1.0), torch.full((2, 3, 28, 28), 5.0)
    second[1, 2] = 0.0
    found = mean_probabilities([first, second], torch.tensor([0, 2]))
    low, high = 1 / (1 + math.e), 1 / (1 + math.exp(-5))
    assert found[:, 0, 0].tolist() == pytest.approx([(low + high) / 2, (low + 0.5) / 2])


# Pasting


def test_pasted_masks_are_detectron2s():
    random = torch.Generator().manual_seed(1)
    boxes = torch.tensor(
        [[3.2, 7.9, 60.1, 55.0], [0.0, 0.0, 100.0, 80.0], [70.5, 20.25, 72.0, 79.9], [9.0, 9.0, 10.0, 10.0]]
    )
    probabilities = torch.rand(4, MASK_SIZE, MASK_SIZE, generator=random)
    probabilities[1] = torch.nn.functional.interpolate(torch.rand(1, 1, 4, 4, generator=random), (28, 28))[0, 0]
    theirs = paste_masks_in_image(probabilities, boxes, (80, 100), threshold=0.5).numpy()
    found = pasted(probabilities, boxes, 100, 80)
    assert all(problem_with({"size": [80, 100], "counts": counts}, 100, 80) is None for counts in found)
    ours = [bitmap({"size": [80, 100], "counts": counts}, 100, 80) for counts in found]
    assert np.array_equal(np.stack(ours), theirs)
    assert pasted(probabilities[:0], boxes[:0], 100, 80) == []


def test_a_pasted_target_is_the_ground_truth_again():
    drawn = ellipse(128, 96, (20.5, 14.0, 97.25, 80.0))
    box = torch.tensor([[20.5, 14.0, 97.25, 80.0]])
    target = mask_targets(torch.from_numpy(drawn)[None].to(torch.uint8), box, torch.zeros(1).long())
    (counts,) = pasted(target, box, 128, 96)
    again = bitmap({"size": [96, 128], "counts": counts}, 128, 96).astype(bool)
    assert (again & drawn).sum() / (again | drawn).sum() > 0.96


# Through the frameworks


@pytest.mark.parametrize("flip", [False, True])
def test_both_frameworks_get_the_same_bitmaps_and_only_for_masks(masked_records, small_run, flip):
    from adapters.detectron2.data import ImageReader as Detectron2Reader
    from adapters.mmdet.data import ImageReader as MMDetectionReader

    def ground_truths(variant, record):
        ours = MMDetectionReader(small_run("mmdet", variant)).training_image(record, 112, flip)
        theirs = Detectron2Reader(small_run("detectron2", variant)).training_image(record, 112, flip)
        return ours["data_samples"].gt_instances, theirs["instances"]

    for one in masked_records:
        ours, theirs = ground_truths("cascade_mask_rcnn", one)
        assert torch.equal(ours.masks, theirs.bitmaps)
        assert len(theirs) == len(one.boxes) and (theirs.bitmaps.flatten(1).sum(1) > 0).all()
    ours, theirs = ground_truths("cascade_rcnn", one)
    assert "masks" not in ours and not theirs.has("bitmaps")


@pytest.mark.parametrize("options", [{"mask_on": "every", "stage_loss": "avg"}, {"mask_on": "first"}, {"stages": 1}])
def test_both_frameworks_agree(options):
    """As the conformance suite compares the default options."""
    inferences, steps = answers_of_both(find_variant("cascade_mask_rcnn", "test"), options)
    assert_agreement(inferences, steps)
    assert all(len(image) == (3 if "stage_loss" in options else 1) for image in inferences[0].mask_logits)
    losses, gradients = steps[0].losses, steps[0].gradients
    wanted = {"every": [1, 2, 3], "first": [1]}.get(options.get("mask_on"), [1])
    assert [name for name in losses if name.endswith("_mask")] == [f"stage{stage}_mask" for stage in wanted]
    assert {name.split(".")[1] for name in gradients if ".mask." in name} == set(map(str, wanted))


def test_a_mask_branch_leaves_the_boxes_alone(framework, small_run):
    """The same losses and detections of boxes as Cascade R-CNN; with a stage's share of gradient in the trunk."""
    found = {}
    for variant in ("cascade_rcnn", "cascade_mask_rcnn"):
        run = small_run(framework, variant)
        side = SIDES[framework](run)
        model = initial_model(side.adapter, run, with_weights=False)
        inference = side.infer(model, two_images())
        torch.manual_seed(0)
        found[variant] = inference, side.step(model, two_images(), ground_truth())
    boxes, masks = (found[name] for name in ("cascade_rcnn", "cascade_mask_rcnn"))
    for one, other in zip(boxes[0].boxes, masks[0].boxes, strict=True):
        assert all(torch.equal(first, second) for first, second in zip(one, other, strict=True))
    assert boxes[1].losses.items() <= masks[1].losses.items()
    assert masks[1].losses["stage3_mask"] == pytest.approx(math.log(2), rel=0.05)  # of untrained probabilities
    heads = [name for name in boxes[1].gradients if name.startswith("heads.")]
    assert all(torch.equal(boxes[1].gradients[name], masks[1].gradients[name]) for name in heads)
    assert not torch.equal(boxes[1].gradients["neck.output2.weight"], masks[1].gradients["neck.output2.weight"])


def test_detections_of_the_headline_have_masks_in_the_file(framework, masked_records, small_run, tmp_path, execution):
    adapter, run = load_adapter(framework), small_run(framework, "cascade_mask_rcnn", mask_on="every")
    run = changed(run, inference={"score_threshold": 0.01, "max_detections": 20})
    state = trained(run, masked_records[:5], tmp_path, execution)
    assert all(math.isfinite(line["losses"][f"stage{n}_mask"]) for line in log_of(tmp_path) for n in (1, 2, 3))
    model = trained_model(run, state)
    predictions = list(adapter.predict(run, model, masked_records))
    for prediction, one in zip(predictions, masked_records, strict=True):
        for label, found in prediction.test_stages.items():
            assert (found.masks is not None) == (label == run.variant.headline)
        found = prediction.test_stages[run.variant.headline]
        for counts, box in zip(found.masks, found.boxes, strict=True):
            drawn = bitmap({"size": [one.height, one.width], "counts": counts}, one.width, one.height)
            rows, columns = np.nonzero(drawn)
            if len(rows):
                assert columns.min() >= math.floor(box[0]) and rows.min() >= math.floor(box[1])
                assert columns.max() < math.ceil(box[2]) and rows.max() < math.ceil(box[3])
    path = tmp_path / "detections.parquet"
    write_detections(path, detection_columns([(one.image_id, one.test_stages) for one in predictions], np.arange(1, 6)))
    rows = read_detections(path)
    assert rows["segmentation"].notna().equals(rows["test_stage"] == run.variant.headline)
    again = list(adapter.predict(run, model, masked_records))
    assert [p.test_stages[run.variant.headline].masks for p in again] == [
        p.test_stages[run.variant.headline].masks for p in predictions
    ]


# Controls


def mutations(framework: str, built):
    """Changes of what was built, by the control that must see them."""
    heads = built.model.roi_head if framework == "mmdet" else built.model.roi_heads
    if framework == "mmdet":
        branches, last = heads.mask_head, heads.bbox_assigner[2]
        yield "masks.rois_entering", lambda: setattr(last, "pos_iou_thr", 0.3)
        layer = heads.mask_roi_extractor.roi_layers[0]
        yield "masks.pool_size", lambda: setattr(layer, "output_size", (7, 7))
    else:
        branches, last = heads.mask_heads, heads.proposal_matchers[2]
        yield "masks.rois_entering", lambda: last.thresholds.__setitem__(1, 0.3)
        yield "masks.pool_size", lambda: setattr(heads.mask_pooler, "output_size", (7, 7))
    yield "masks.stages", lambda: branches.pop("2")
    yield "masks.loss_weight", lambda: setattr(heads, "mask_loss_weight", 0.5)
    yield "masks.trunk_gradient", lambda: heads.trunk_gradient.__setitem__(1, 1.0)


def test_controls_are_read_back_and_see_changes(framework, small_run):
    heads = importlib.import_module(f"adapters.{framework}.controls.heads")
    adapter = load_adapter(framework)

    def read(built, only=None):
        found = {}
        for name, value, _ in heads.mask_rows(adapter.roi_heads(built.model), heads.probed_heads(built)):
            found[name] = value
            if name == only:
                return found
        return found

    run = small_run(framework, "cascade_mask_rcnn", mask_on="every")
    clean = read(adapter.build(run))
    assert set(clean) == {name for name in CONTROLS if name.startswith("masks.")}
    for name, value in clean.items():
        if CONTROLS[name].expected:
            assert value == CONTROLS[name].expected(run), name
    assert clean["masks.trunk_gradient"] == [stage.trunk_gradient for stage in stage_settings(run)] == [1, 0.5, 0.25]
    assert len(clean["masks.rois_entering"]) == 3 and min(clean["masks.rois_entering"]) > 0
    for number in range(5):
        built = adapter.build(run)
        control, change = list(mutations(framework, built))[number]
        change()
        assert read(built, control)[control] != clean[control], control
    boxes = small_run(framework, "cascade_rcnn")
    expected = {"masks.pool_size": None, "masks.rois_entering": []}
    expected |= {f"masks.{name}": [] for name in ("stages", "loss_weight", "trunk_gradient")}
    assert read(adapter.build(boxes)) == expected


def test_both_frameworks_count_the_same_rois(small_run):
    counts = []
    for framework in ("mmdet", "detectron2"):
        by_name = control_values(small_run(framework, "cascade_mask_rcnn", mask_on="every"))
        assert by_name["masks.rois_entering"] == by_name["heads.positives_entering"]
        counts.append(by_name["masks.rois_entering"])
    assert counts[0] == counts[1]


def test_masks_count_in_the_cost(framework, small_run):
    adapter = load_adapter(framework)
    costs = []
    for variant, options in (
        ("cascade_rcnn", {}),
        ("cascade_mask_rcnn", {}),
        ("cascade_mask_rcnn", {"mask_on": "every"}),
    ):
        run = small_run(framework, variant, **options)
        costs.append(cost_of(adapter, initial_model(adapter, run, with_weights=False), run))
    channels, classes = run.protocol.neck.channels, len(run.dataset.categories)
    branch = 4 * (9 * channels**2 + channels) + 4 * channels**2 + channels + (channels + 1) * classes
    parameters = [cost["parameters"] for cost in costs]
    assert [parameters[1] - parameters[0], parameters[2] - parameters[0]] == [branch, 3 * branch]
    multiplications = 4 * 9 * channels**2 * 14**2 + channels**2 * 28**2 + channels * classes * 28**2
    detections = run.protocol.inference.max_detections
    assert (costs[2]["flops"] - costs[1]["flops"]) / (2 * detections) == pytest.approx(multiplications, rel=0.01)


# Studies


def test_a_study_on_a_dataset_without_masks_is_refused_in_one_line(tmp_path):
    study = {
        "name": "masks", "title": "Masks", "dataset": "blood_cells", "protocol": "tiny", "frameworks": ["mmdet"],
        "backbones": ["resnet18_narrow"], "baseline": "masks", "seeds": [0],
        "variants": [{"variant": "cascade_mask_rcnn", "label": "masks"}],
    }  # fmt: skip
    path = tmp_path / "masks.yaml"
    path.write_text(json.dumps(study))
    with pytest.raises(InputError, match=r"variants\[0\]\.variant: cascade_mask_rcnn needs masks; dataset blood_cells"):
        load_study(str(path))
    path.write_text(json.dumps(study | {"dataset": "shapes"}))
    assert load_study(str(path)).runs[0].run.variant.masks


def test_drawn_shapes_have_masks_that_adapters_read(tmp_path):
    few_shapes(tmp_path / "shapes", 3, 1)
    for one in load_split(tmp_path / "shapes", "train", segmentations=True).records:
        drawn = record_bitmaps(one, one.width, one.height, flip=False)
        targets = mask_targets(torch.from_numpy(drawn), torch.from_numpy(one.boxes), torch.arange(len(one.boxes)))
        assert (targets.mean((1, 2)) > 0.2).all()  # every box is tight on its shape
