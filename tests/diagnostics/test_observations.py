"""Ground truth as the diagnostics read it, and the thresholds of a run's stages."""

import json

import numpy as np
import pytest
from detection_cases import annotations

from cascadebench.diagnostics.boxes import best_ground_truth, iou_bin, iou_matrix, paired_iou
from cascadebench.diagnostics.observations import ground_truth_by_image, iou_thresholds
from cascadebench.study_loading import load_study


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
