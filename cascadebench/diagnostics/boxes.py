"""Overlap of boxes, with each other and with ground truth."""

import numpy as np
import pandas as pd

IOU_BINS = 20
"""Bins of IoU from 0 to 1, each 0.05 wide; the last one is closed."""


def corners(rows: pd.DataFrame) -> np.ndarray:
    """Boxes of a table with x, y, w, h as x1, y1, x2, y2: float64 [N, 4]."""
    boxes = rows[["x", "y", "w", "h"]].to_numpy(dtype=np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def iou_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of every box x1, y1, x2, y2 with every other: float64 [N, M] of float [N, 4] and [M, 4].

    It is computed in double precision, and 0 for two boxes without area.
    """
    return _iou(np.asarray(first, dtype=np.float64).T[:, :, None], np.asarray(second, dtype=np.float64).T[:, None, :])


def paired_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of boxes with their partners in the same row: float64 [N]."""
    return _iou(np.asarray(first, dtype=np.float64).T, np.asarray(second, dtype=np.float64).T)


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of x1, y1, x2, y2 along the first axis, whatever the others are."""
    overlap = _side(np.minimum(first[2], second[2]) - np.maximum(first[0], second[0]))
    overlap *= _side(np.minimum(first[3], second[3]) - np.maximum(first[1], second[1]))
    areas = [_side(boxes[2] - boxes[0]) * _side(boxes[3] - boxes[1]) for boxes in (first, second)]
    union = areas[0] + areas[1] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def _side(length: np.ndarray) -> np.ndarray:
    """A length, or 0 for boxes that do not meet."""
    return np.maximum(length, 0, out=length)


def highest(overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest IoU of every row, float64 [N], and its column, int64 [N]: the first of equal ones, -1 where all are 0."""
    if not overlaps.shape[1]:
        return np.zeros(len(overlaps)), np.full(len(overlaps), -1)
    places = overlaps.argmax(axis=1)
    ious = overlaps[np.arange(len(overlaps)), places]
    return ious, np.where(ious > 0, places, -1)


def best_ground_truth(boxes: np.ndarray, ground_truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest IoU of every box with the ground truth, and with which, as :func:`highest` gives them."""
    return highest(iou_matrix(boxes, ground_truth))


def iou_bin(ious: np.ndarray) -> np.ndarray:
    """Bin of each IoU, from 0: ``[0, 0.05)``, ..., ``[0.95, 1]``."""
    # 0.7 in single precision is a hair below 0.7; rounding puts an IoU that stands on an edge into the bin it opens.
    scaled = np.round(np.asarray(ious, dtype=np.float64) * IOU_BINS, 6)
    return np.clip(np.floor(scaled), 0, IOU_BINS - 1).astype(np.int64)
