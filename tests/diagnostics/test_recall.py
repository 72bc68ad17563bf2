"""Recall against pycocotools without categories, and one pass through all diagnostics of a prediction."""

import numpy as np
import pytest
from detection_cases import annotations
from pycocotools_reference import pycocotools_evaluation

from cascadebench.diagnostics.localization import LOCALIZATION
from cascadebench.diagnostics.nms_survivors import NMS_SURVIVORS
from cascadebench.diagnostics.observations import Candidates, GroundTruthBoxes, ImageObservation, StagePrediction
from cascadebench.diagnostics.recall import LIMITS, RECALL, Recall, average_recall
from cascadebench.diagnostics.run_diagnostics import PredictionDiagnostics
from cascadebench.metrics.coco.parquet import read_parquet


def random_boxes(rng, count):
    corner = rng.uniform(0, 200, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(4, 150, (count, 2))], axis=1).astype(np.float32)


def random_images(seed, images=5, proposals=1100):
    """Images whose boxes lie around their ground truth, with ties of score and of IoU, and crowd."""
    rng = np.random.default_rng(seed)
    found = []
    for image_id in range(images):
        count = int(rng.integers(0, 9))
        truth = random_boxes(rng, count)
        if count > 2:
            truth[1] = truth[0]
        areas = (truth[:, 2:] - truth[:, :2]).astype(np.float64).prod(axis=1) * rng.uniform(0.5, 1, count)
        number = int(rng.integers(0, 50)) if image_id % 2 else proposals
        near = truth[rng.integers(0, count, number)] if count else random_boxes(rng, number)
        noise = [near + rng.normal(0, spread, near.shape).astype(np.float32) for spread in (40, 15, 5)]
        for boxes in noise:
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
        scores = rng.integers(0, 400, number).astype(np.float32) / 400
        crowd = rng.uniform(size=count) < 0.2
        gt = GroundTruthBoxes(truth, rng.integers(0, 3, count), crowd, areas)
        stages = tuple(StagePrediction(noise[0], boxes, None) for boxes in noise[1:])
        found.append((ImageObservation(image_id, noise[0], scores, stages), gt))
    return found


def xywh(box):
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]


def reference(images, boxes_of):
    """COCO's recall [thresholds, areas, limits]."""
    truth, found = annotations([], images=len(images)), []
    for observation, gt in images:
        for box, label, crowd, area in zip(gt.boxes, gt.labels, gt.crowd, gt.areas, strict=True):
            number = len(truth["annotations"]) + 1
            place = {"id": number, "image_id": observation.image_id, "category_id": int(label) + 1}
            truth["annotations"].append(place | {"bbox": xywh(box), "area": float(area), "iscrowd": int(crowd)})
        for box, score in zip(boxes_of(observation), observation.objectness, strict=True):
            place = {"image_id": observation.image_id, "category_id": 1}
            found.append(place | {"bbox": xywh(box), "score": float(score)})
    recall = pycocotools_evaluation(truth, found, max_dets=LIMITS, class_agnostic=True).eval["recall"][:, 0]
    return np.where(recall < 0, np.nan, recall)


@pytest.mark.parametrize("seed", range(3))
def test_recall_is_that_of_pycocotools(seed):
    images = random_images(seed)
    recall = Recall(2)
    for observation, gt in images:
        recall.add(observation, gt)
    table = recall.table()
    for stage, boxes_of in enumerate((lambda o: o.proposals, lambda o: o.stages[0].boxes, lambda o: o.stages[1].boxes)):
        expected = reference(images, boxes_of)
        part = table[table["stage"] == stage]
        ours = (part["matched"] / part["total"]).to_numpy().reshape(4, len(LIMITS), 10).transpose(2, 0, 1)
        assert ours == pytest.approx(expected, abs=1e-12, nan_ok=True)
        mean = average_recall(table)[stage].to_numpy().reshape(4, len(LIMITS))
        assert mean == pytest.approx(expected.mean(axis=0), abs=1e-12, nan_ok=True)
    ends = average_recall(table).loc[:, "all", 1000]
    assert 0 < ends[0] < ends[1] < ends[2] < 1  # the case tells good stages from bad ones


def test_one_proposal_recalls_one_object():
    truth = np.array([[0, 0, 100, 100], [0, 0, 100, 100]], dtype=np.float64)
    gt = GroundTruthBoxes(truth, np.zeros(2, int), np.zeros(2, bool), np.full(2, 1e4))
    recall = Recall(1)
    proposals = np.array([[0, 0, 100, 80]], dtype=np.float32)
    recall.add(ImageObservation(0, proposals, np.ones(1), (StagePrediction(proposals, None, None),)), gt)
    table = recall.table()
    assert table["stage"].unique().tolist() == [0]  # the stage has no regressor
    whole = table[(table["area"] == "all") & (table["limit"] == 100)].set_index("iou")
    assert whole["matched"].tolist() == [1] * 7 + [0] * 3
    assert whole["total"].tolist() == [2] * 10
    assert average_recall(table)[0, "all", 100] == pytest.approx(0.35)
    assert np.isnan(average_recall(table)[0, "small", 100])
    assert average_recall(table)[0, "large", 100] == pytest.approx(0.35)


BOX = np.array([[0, 0, 100, 100]], dtype=np.float32)
TRUTH = GroundTruthBoxes(BOX, np.array([0]), np.array([False]), np.array([1e4]))


def observation(image_id, candidates=None):
    """A detector with two regressors and one classifier; nothing moves."""
    stages = (StagePrediction(BOX, BOX, np.array([[0.5, 0.5]])), StagePrediction(BOX, BOX, None))
    return ImageObservation(image_id, BOX, np.ones(1, dtype=np.float32), stages, candidates)


def test_files_of_a_prediction(tmp_path):
    diagnostics = PredictionDiagnostics([0.5, 0.6], {3: TRUTH, 5: TRUTH})
    diagnostics.add(observation(3))
    diagnostics.add(observation(5, Candidates(BOX, np.ones(1), np.zeros(1, int))))
    diagnostics.write(tmp_path)
    localization = read_parquet(tmp_path / "localization.parquet", LOCALIZATION)
    counts = localization.groupby(["part", "stage"], observed=True)["count"].sum().to_dict()
    assert counts == {
        ("regressor", 1): 2, ("regressor", 2): 2, ("regressors so far", 1): 2, ("regressors so far", 2): 2,
        ("classifier", 1): 2,
    }  # fmt: skip
    recall = read_parquet(tmp_path / "recall.parquet", RECALL)
    assert recall.groupby("stage")["matched"].max().to_dict() == {0: 2, 1: 2, 2: 2}
    assert recall["total"].max() == 2
    survivors = read_parquet(tmp_path / "nms_survivors.parquet", NMS_SURVIVORS)
    assert survivors["images"].tolist() == [1] * 8


def test_without_candidates_there_is_no_file_of_survivors(tmp_path):
    diagnostics = PredictionDiagnostics([0.5, 0.6], {3: TRUTH})
    diagnostics.add(observation(3))
    diagnostics.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["localization.parquet", "recall.parquet"]
