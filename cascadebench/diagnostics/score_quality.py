"""Scores of detections that are right only at loose IoU: whether a detector trusts its roughly placed boxes.

The question is that of Li, Yang and Zhang, Rethinking Classification and Localization for Cascade R-CNN, BMVC 2019,
Fig. 5: the confidence of detections whose IoU with the ground truth is from 0.50 to 0.75.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import spearmanr

from cascadebench.diagnostics.boxes import corners, iou_matrix
from cascadebench.metrics.coco.ground_truth import GroundTruth
from cascadebench.metrics.coco.parquet import WORD, required

IOU_RANGE = (0.5, 0.75)
"""Ends included."""
SCORE_BINS = 20
CONFIDENT = 0.5

SCORE_QUALITY = pa.schema(
    [
        required("test_stage", WORD),
        required("count", pa.int64()),
        required("mean_score", pa.float64()),
        required("confident", pa.int64()),
        required("spearman", pa.float64()),
        required("count_from_50", pa.int64()),
        required("spearman_from_50", pa.float64()),
        required("score_histogram", pa.list_(pa.int64(), SCORE_BINS)),
    ]
)
"""Columns of ``score_quality.parquet``: one row per test stage. ``*_from_50`` are of all detections with an IoU of 0.5
or more, the others of those in :data:`IOU_RANGE`."""


def best_ious(truth: GroundTruth, detections: pd.DataFrame) -> np.ndarray:
    """Highest IoU of each detection with a ground truth of its image and class, crowd left out: float64 [N]."""
    counted = truth.boxes[truth.boxes["iscrowd"] == 0]
    truths, their_class, of_image = corners(counted), counted["category_id"].to_numpy(), _places(counted)
    boxes, category, best = corners(detections), detections["category_id"].to_numpy(), np.zeros(len(detections))
    for image_id, places in _places(detections).items():
        if image_id in of_image:
            objects = of_image[image_id]
            same = category[places][:, None] == their_class[objects][None, :]
            best[places] = np.where(same, iou_matrix(boxes[places], truths[objects]), 0).max(axis=1)
    return best


def _places(rows: pd.DataFrame) -> dict[int, np.ndarray]:
    """Positions of the rows of every image."""
    return rows.groupby("image_id").indices


def score_quality(truth: GroundTruth, detections: pd.DataFrame, test_stages: Sequence[str] = ()) -> pd.DataFrame:
    """Scores of the detections in :data:`IOU_RANGE`, test stage by test stage.

    Every detection counts, also one whose object another detection has: the question is how boxes are scored.

    Parameters
    ----------
    detections : DataFrame
        As :func:`cascadebench.metrics.coco.detections.read_detections` returns it.
    test_stages : sequence of str
        Test stages that must be in the table, with or without a detection.

    Returns
    -------
    DataFrame
        The columns of :data:`SCORE_QUALITY`. Spearman's correlation is that of score and IoU; it is NaN with fewer than
        three detections or where all scores or all IoUs are equal.
    """
    rows = []
    for label in dict.fromkeys([*test_stages, *detections["test_stage"].unique()]):
        of_stage = detections[detections["test_stage"] == label]
        ious, scores = best_ious(truth, of_stage), of_stage["score"].to_numpy(dtype=np.float64)
        near = (ious >= IOU_RANGE[0]) & (ious <= IOU_RANGE[1])
        bins = np.clip((scores[near] * SCORE_BINS).astype(np.int64), 0, SCORE_BINS - 1)
        rows.append(
            {
                "test_stage": label,
                "count": int(near.sum()),
                "mean_score": float(scores[near].mean()) if near.any() else float("nan"),
                "confident": int((scores[near] > CONFIDENT).sum()),
                "spearman": _spearman(scores[near], ious[near]),
                "count_from_50": int((ious >= IOU_RANGE[0]).sum()),
                "spearman_from_50": _spearman(scores[ious >= IOU_RANGE[0]], ious[ious >= IOU_RANGE[0]]),
                "score_histogram": np.bincount(bins, minlength=SCORE_BINS),
            }
        )
    return pd.DataFrame(rows, columns=SCORE_QUALITY.names)


def _spearman(scores: np.ndarray, ious: np.ndarray) -> float:
    if len(scores) < 3 or np.ptp(scores) == 0 or np.ptp(ious) == 0:
        return float("nan")
    return float(spearmanr(scores, ious).statistic)
