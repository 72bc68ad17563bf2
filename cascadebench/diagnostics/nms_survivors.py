"""What survives the RPN's NMS at several IoU thresholds: how many boxes, how alike, how many of them good.

The question is that of Wang et al., Decoupled R-CNN, TCSVT 2022, Table I: a looser NMS leaves the regressor more
positives, and the classifier more boxes that are nearly the same.
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from cascadebench.diagnostics.boxes import best_ground_truth, iou_matrix
from cascadebench.diagnostics.observations import Candidates, GroundTruthBoxes
from cascadebench.metrics.coco.parquet import required

NMS_IOUS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
TOP = 1000
"""Survivors per image, by score, that would become proposals."""
POSITIVE_IOU = 0.5
_ROWS_AT_ONCE = 512

NMS_SURVIVORS = pa.schema(
    [
        required("nms_iou", pa.float64()),
        required("images", pa.int64()),
        required("candidates", pa.int64()),
        required("survivors", pa.int64()),
        required("overlap_sum", pa.float64()),
        required("top", pa.int64()),
        required("top_positives", pa.int64()),
    ]
)
"""Columns of ``nms_survivors.parquet``; `overlap_sum` is over all survivors, each with its highest IoU with another."""


def suppress(boxes: np.ndarray, nms_ious: tuple[float, ...]) -> np.ndarray:
    """Survivors of exact NMS at several thresholds, bool [thresholds, N], of boxes by falling score, float [N, 4].

    A box is suppressed by an earlier survivor whose IoU with it is above the threshold.
    """
    alive = np.ones((len(nms_ious), len(boxes)), dtype=bool)
    limits = np.asarray(nms_ious)[:, None]
    overlaps = iou_matrix(boxes, boxes)
    for place in np.flatnonzero((np.triu(overlaps, 1) > limits.min()).any(axis=1)):
        suppressed = overlaps[place, place + 1 :] > limits
        alive[:, place + 1 :] &= ~(suppressed & alive[:, place, None])
    return alive


def survivors(candidates: Candidates, nms_ious: tuple[float, ...] = NMS_IOUS) -> np.ndarray:
    """Survivors of NMS within each level: bool [thresholds, N], in the order of the candidates."""
    alive = np.zeros((len(nms_ious), len(candidates.boxes)), dtype=bool)
    for level in np.unique(candidates.levels):
        places = np.flatnonzero(candidates.levels == level)
        places = places[np.argsort(-np.asarray(candidates.scores)[places], kind="stable")]
        alive[:, places] = suppress(candidates.boxes[places], nms_ious)
    return alive


def _overlap_sums(boxes: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Sum over the survivors of each threshold of the highest IoU with another one; 0 for one alone."""
    sums = np.zeros(len(alive))
    for start in range(0, len(boxes), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(boxes)))
        overlaps = iou_matrix(boxes[rows], boxes)
        overlaps[rows - start, rows] = 0.0
        for place, kept in enumerate(alive):
            if kept[rows].any():
                sums[place] += overlaps[np.ix_(kept[rows], kept)].max(axis=1).sum()
    return sums


class NmsSurvivors:
    """Counts over the images whose candidates are given."""

    def __init__(self) -> None:
        self._sums = np.zeros((len(NMS_IOUS), len(NMS_SURVIVORS.names) - 1))

    @property
    def images(self) -> int:
        """Images counted."""
        return int(self._sums[0, 0])

    def add(self, candidates: Candidates, ground_truth: GroundTruthBoxes) -> None:
        """Run NMS over the candidates of one image."""
        truth = ground_truth.without_crowd()
        positive = best_ground_truth(candidates.boxes, truth.boxes)[0] >= POSITIVE_IOU
        ranking = np.argsort(-np.asarray(candidates.scores), kind="stable")
        every = survivors(candidates)
        for row, (alive, overlap) in enumerate(zip(every, _overlap_sums(candidates.boxes, every), strict=True)):
            top = ranking[alive[ranking]][:TOP]
            self._sums[row] += (1, len(alive), alive.sum(), overlap, len(top), positive[top].sum())

    def table(self) -> pd.DataFrame:
        """Return the columns of :data:`NMS_SURVIVORS`."""
        table = pd.DataFrame(self._sums, columns=NMS_SURVIVORS.names[1:])
        whole = [name for name in table if name != "overlap_sum"]
        return table.astype(dict.fromkeys(whole, "int64")).assign(nms_iou=NMS_IOUS)[NMS_SURVIVORS.names]
