"""Detections in the order in which precision is accumulated: class, score falling, image, order of the file."""

from dataclasses import dataclass

import numpy as np

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.compiled import compiled

_DIGIT = 11
_VALUES = 1 << _DIGIT


@dataclass(frozen=True)
class OrderedDetections:
    """Detections of one set, such as one test stage."""

    start: np.ndarray
    """int64 [classes + 1]: detections of class c are ``start[c]`` up to, without, ``start[c + 1]``."""
    order: np.ndarray
    """int32 [detections]: row of every detection in the list that was given."""
    image: np.ndarray
    """int32 [detections]: position of the image."""
    box: np.ndarray
    """float64 [detections, 4]: x, y, width, height in pixels."""
    area: np.ndarray
    """float64 [detections]: square pixels."""


def ordered_detections(
    classes: int,
    category: np.ndarray,
    image: np.ndarray,
    score: np.ndarray,
    box: np.ndarray,
    area: np.ndarray | None = None,
) -> OrderedDetections:
    """Order detections as pycocotools merges those of all images: stable, by falling score within a class.

    Parameters
    ----------
    classes : int
        Number of classes.
    category, image : ndarray of int [N]
        Positions of class and image, both from 0.
    score : ndarray, floating point [N]
        Equal scores stand in the order of the images, within an image in the order given.
    box : ndarray, floating point [N, 4]
        x, y, width, height in pixels; made float64 before anything is computed.
    area : ndarray, floating point [N], optional
        Square pixels; that of the box if it is not given.

    Raises
    ------
    InputError
        If a score is NaN.
    """
    score = np.asarray(score, dtype=np.float64)
    if np.isnan(score).any():
        raise InputError(f"detections: row {int(np.isnan(score).argmax())} (counted from 0): the score is NaN")
    category, image = np.asarray(category, dtype=np.int64), np.asarray(image, dtype=np.int64)
    order = np.arange(len(score), dtype=np.int32)
    order = _sorted_by(image.view(np.uint64), order)
    order = _sorted_by(_falling(score), order)
    order = _sorted_by(category.view(np.uint64), order)
    start = np.zeros(classes + 1, dtype=np.int64)
    np.cumsum(np.bincount(category, minlength=classes), out=start[1:])
    box = np.asarray(box).reshape(-1, 4).take(order, axis=0).astype(np.float64, copy=False)
    area = box[:, 2] * box[:, 3] if area is None else np.asarray(area, dtype=np.float64)[order]
    return OrderedDetections(start, order, image[order].astype(np.int32), box, area)


def _falling(score: np.ndarray) -> np.ndarray:
    """Whole numbers, uint64 [N], that rise as the scores fall and are equal where the scores are."""
    # A sum with 0 turns -0 into 0. The bits of positive numbers rise with the numbers, those of negative ones fall.
    bits = (0.0 - score + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign)


@compiled
def _sorted_by(keys, order):
    """Sort rows, int32 [N], by their keys, uint64 [N], least significant digit first; equal keys keep `order`.

    `order` is overwritten.
    """
    rows = len(order)
    differing, sorted_already = np.uint64(0), True
    for position in range(1, rows):
        key, before = keys[order[position]], keys[order[position - 1]]
        differing |= key ^ before
        sorted_already &= before <= key
    if sorted_already:
        return order
    other = np.empty_like(order)
    place = np.empty(_VALUES, np.int64)
    for shift in range(0, 64, _DIGIT):
        if not (differing >> np.uint64(shift)) & np.uint64(_VALUES - 1):
            continue
        place[:] = 0
        for row in range(rows):
            place[(keys[row] >> np.uint64(shift)) & np.uint64(_VALUES - 1)] += 1
        total = 0
        for value in range(_VALUES):
            count = place[value]
            place[value] = total
            total += count
        for position in range(rows):
            value = (keys[order[position]] >> np.uint64(shift)) & np.uint64(_VALUES - 1)
            other[place[value]] = order[position]
            place[value] += 1
        order, other = other, order
    return order
