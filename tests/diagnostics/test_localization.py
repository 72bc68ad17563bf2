"""Ground truth and overlaps as diagnostics read them, and RoIs whose IoU with it is known before and after a stage."""

import json

import numpy as np
import pytest
from detection_cases import annotations

from cascadebench.diagnostics.boxes import best_ground_truth, iou_bin, iou_matrix, paired_iou
from cascadebench.diagnostics.localization import Localization
from cascadebench.diagnostics.observations import (
    GroundTruthBoxes,
    ImageObservation,
    StagePrediction,
    ground_truth_by_image,
    iou_thresholds,
)
from cascadebench.study_loading import load_study

TRUTH = np.array([[0, 0, 100, 100], [300, 0, 400, 100], [0, 300, 100, 400]], dtype=np.float64)
GROUND_TRUTH = GroundTruthBoxes(TRUTH, np.array([1, 0, 1]), np.array([False, False, True]), np.full(3, 1e4))


def boxes(*rows):
    return np.array(rows, dtype=np.float32)


# IoU 0.5 and 0.62 with the first, 0.8 with the second, on the crowd, nowhere.
ROIS = boxes([0, 0, 100, 50], [0, 0, 100, 62], [300, 0, 400, 80], [0, 300, 100, 400], [600, 600, 700, 700])
# IoU 0.9, 0.7; the third jumps to the first ground truth, so that its IoU with its own is 0.
FIRST = boxes([0, 0, 100, 90], [0, 0, 100, 70], [0, 0, 100, 100], [0, 0, 100, 100], [0, 0, 100, 100])
SECOND = boxes([0, 0, 100, 100], [0, 0, 100, 100], [300, 0, 400, 100], [0, 0, 1, 1], [0, 0, 1, 1])


def probabilities(*chosen):
    """Rows that give 0.5 to one of two classes or to background, which is 2."""
    rows = np.full((len(chosen), 3), 0.25, dtype=np.float32)
    rows[np.arange(len(chosen)), chosen] = 0.5
    return rows


def table_of(*stages, thresholds=(0.5, 0.6), image=GROUND_TRUTH):
    localization = Localization(thresholds)
    localization.add(ImageObservation(1, ROIS, np.ones(len(ROIS)), stages), image)
    return localization.table().set_index(["part", "stage", "iou_low"]).sort_index()


def test_output_iou_is_with_the_ground_truth_of_the_input():
    table = table_of(StagePrediction(ROIS, FIRST, None))
    found = table.loc["regressor", 1]
    assert found["count"].sum() == 3  # neither the one on the crowd nor the one nowhere
    assert found.loc[0.5].tolist() == pytest.approx([1, 0.9, 0.81])
    assert found.loc[0.6].tolist() == pytest.approx([1, 0.7, 0.49])
    assert found.loc[0.8].tolist() == pytest.approx([1, 0, 0])
    assert set(table.index.get_level_values("part")) == {"regressor", "regressors so far"}


def test_a_later_stage_is_measured_from_its_own_input_and_from_the_proposals():
    table = table_of(StagePrediction(ROIS, FIRST, None), StagePrediction(FIRST, SECOND, None))
    own, so_far = table.loc["regressor", 2], table.loc["regressors so far", 2]
    # Entering the second stage, four RoIs are best on the first ground truth: IoU 0.9, 0.7, 1, 1, 1.
    assert own["count"].to_dict() == pytest.approx(dict.fromkeys(own.index, 0) | {0.9: 1, 0.7: 1, 0.95: 3})
    assert own.loc[0.95, "value_sum"] == pytest.approx(0 + 2e-4)
    assert so_far["count"].sum() == 3
    assert so_far["value_sum"].sum() == pytest.approx(3)


def test_classification_loss_by_the_label_of_the_threshold():
    stage = StagePrediction(ROIS, None, probabilities(1, 2, 0, 2, 0))
    half, quarter = -np.log(0.5), -np.log(0.25)
    loose = table_of(stage)
    assert set(loose.index.get_level_values("part")) == {"classifier"}
    losses = loose.loc["classifier", 1]
    assert losses["count"].sum() == 5
    assert losses.loc[0.5, "value_sum"] == pytest.approx(half)  # IoU 0.5 is positive at 0.5: class 1
    assert losses.loc[0.6, "value_sum"] == pytest.approx(quarter)  # class 1, taken for background
    assert losses.loc[0.8, "value_sum"] == pytest.approx(half)
    assert losses.loc[0.0, "value_sum"] == pytest.approx(half + quarter)  # background, on the crowd and nowhere
    strict = table_of(stage, thresholds=(0.7,)).loc["classifier", 1]
    assert strict.loc[0.5, "value_sum"] == pytest.approx(quarter)  # now background, taken for class 1
    assert strict.loc[0.6, "value_sum"] == pytest.approx(half)


def test_a_probability_of_zero_has_a_finite_loss():
    certain = np.zeros((5, 3), dtype=np.float32)
    losses = table_of(StagePrediction(ROIS, None, certain)).loc["classifier", 1, :]
    assert losses["value_sum"].sum() == pytest.approx(5 * 87.336, rel=1e-4)


def test_an_image_without_ground_truth():
    nothing = GroundTruthBoxes(np.empty((0, 4)), np.empty(0, int), np.empty(0, bool), np.empty(0))
    table = table_of(StagePrediction(ROIS, FIRST, probabilities(2, 2, 2, 2, 2)), image=nothing)
    assert table.loc["regressor"]["count"].sum() == 0
    assert table.loc["classifier", 1].loc[0.0, "count"] == 5


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="stage 1: 4 boxes for 5 RoIs"):
        table_of(StagePrediction(ROIS, FIRST[:4], None))


def test_ground_truth_by_image(tmp_path):
    path = tmp_path / "val.json"
    content = annotations([(1, 3, 10, 20, 30, 40), (1, 1, 0, 0, 5, 5, True), (2, 2, 1, 1, 2, 2)], images=3)
    content["annotations"][0]["area"] = 700.5
    path.write_text(json.dumps(content))
    found = ground_truth_by_image(path, ("class 3", "class 1", "class 2"))
    assert sorted(found) == [0, 1, 2]
    assert len(found[0].boxes) == 0
    assert found[1].boxes.tolist() == [[10, 20, 40, 60], [0, 0, 5, 5]]
    assert found[1].labels.tolist() == [0, 1]
    assert found[1].crowd.tolist() == [False, True]
    assert found[1].areas.tolist() == [700.5, 25]
    counted = found[1].without_crowd()
    assert (counted.boxes.tolist(), counted.labels.tolist()) == ([[10, 20, 40, 60]], [0])


def test_thresholds_of_a_run():
    runs = {planned.run.variant.name: planned.run for planned in load_study("tiny").runs}
    assert iou_thresholds(runs["faster_rcnn"]) == [0.5]
    assert iou_thresholds(runs["cascade_rcnn"]) == [0.5, 0.6, 0.7]
    again = runs["faster_rcnn"].variant.model_copy(update={"stages": 3, "classifiers": 3})
    assert iou_thresholds(runs["faster_rcnn"].model_copy(update={"variant": again})) == [0.5, 0.5, 0.5]


def test_iou():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 20]], dtype=np.float32)
    assert iou_matrix(boxes, boxes) == pytest.approx(np.array([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]]))
    assert paired_iou(boxes, boxes[[1, 1, 2]]) == pytest.approx([1 / 3, 1, 0])
    ious, places = best_ground_truth(boxes, boxes[1:2])
    assert ious == pytest.approx([1 / 3, 1, 0])
    assert places.tolist() == [0, 0, -1]


def test_bins_open_at_their_lower_edge():
    edges = [0, 0.05, 0.15, 0.3, 0.35, 0.5, 0.6, 0.7, 0.95, 1]
    expected = [0, 1, 3, 6, 7, 10, 12, 14, 19, 19]
    assert iou_bin(np.array(edges)).tolist() == expected
    assert iou_bin(np.array(edges, dtype=np.float32)).tolist() == expected
    assert iou_bin(np.array([0.0499, 0.6999, 0.9499])).tolist() == [0, 13, 18]
