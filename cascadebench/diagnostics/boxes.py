"""Overlap of boxes, and matching of boxes to ground truth, as COCO does it."""

import numpy as np
import pandas as pd

IOU_BINS = 20
"""Bins of IoU from 0 to 1, each 0.05 wide; the last one is closed."""


def corners(rows: pd.DataFrame) -> np.ndarray:
    """Boxes of a table with x, y, w, h as x1, y1, x2, y2: float64 [N, 4]."""
    boxes = rows[["x", "y", "w", "h"]].to_numpy(dtype=np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def iou_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of every box with every other, in double precision.

    Parameters
    ----------
    first, second : ndarray, float [N, 4] and [M, 4]
        x1, y1, x2, y2.

    Returns
    -------
    ndarray, float64 [N, M]
        In [0, 1]; 0 for two boxes without area.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def paired_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of boxes with their partners in the same row: float64 [N]."""
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (first, second)]
    union = areas[0] + areas[1] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def best_ground_truth(boxes: np.ndarray, ground_truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest IoU of every box with the ground truth, and with which; on equal IoU the first.

    Returns
    -------
    ious : ndarray, float64 [N]
        0 without ground truth.
    places : ndarray, int64 [N]
        Row of the ground truth; -1 for a box that overlaps none.
    """
    if not len(ground_truth):
        return np.zeros(len(boxes)), np.full(len(boxes), -1)
    overlaps = iou_matrix(boxes, ground_truth)
    places = overlaps.argmax(axis=1)
    ious = overlaps[np.arange(len(boxes)), places]
    return ious, np.where(ious > 0, places, -1)


def iou_bin(ious: np.ndarray) -> np.ndarray:
    """Bin of each IoU, from 0: ``[0, 0.05)``, ..., ``[0.95, 1]``."""
    # 0.7 in single precision is a hair below 0.7; rounding puts an IoU that stands on an edge into the bin it opens.
    scaled = np.round(np.asarray(ious, dtype=np.float64) * IOU_BINS, 6)
    return np.clip(np.floor(scaled), 0, IOU_BINS - 1).astype(np.int64)


def greedy_match(overlaps: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Match boxes to ground truth as COCO does, at several IoU thresholds.

    In the order given, each box takes the ground truth with the highest IoU among those at or above the threshold that
    are still free; of equal IoUs, the last.

    Parameters
    ----------
    overlaps : ndarray, float64 [N, G]
        IoU; boxes by falling score.
    thresholds : ndarray, float64 [T]

    Returns
    -------
    ndarray, int64 [T, N]
        Row of the ground truth, or -1.
    """
    boxes, truths = overlaps.shape
    matched = np.full((len(thresholds), boxes), -1, dtype=np.int64)
    if not truths:
        return matched
    least = np.minimum(thresholds, 1 - 1e-10)[:, None]
    free = np.ones((len(thresholds), truths), dtype=bool)
    rows = np.arange(len(thresholds))
    for box in np.flatnonzero((overlaps >= least.min()).any(axis=1)):
        ious = np.where(free & (overlaps[box] >= least), overlaps[box], -1.0)
        best = truths - 1 - ious[:, ::-1].argmax(axis=1)
        taken = ious[rows, best] >= 0
        matched[taken, box] = best[taken]
        free[rows[taken], best[taken]] = False
        if not free.any():
            break
    return matched
