"""Masks of objects as COCO writes them: polygons and run lengths.

A segmentation is a list of polygons, each ``[x1, y1, x2, y2, ...]`` in pixels of the image, or run lengths
``{"size": [height, width], "counts": ...}``: lengths of alternating runs of zeros and ones, column by column, as a list
or in COCO's text.
"""

from typing import Any

import numpy as np
from pycocotools import mask as rle

Segmentation = list[Any] | dict[str, Any]
"""As JSON holds it; polygons may also be arrays."""

_LEAST_COORDINATES = 6


def problem_with(segmentation: Any, width: int, height: int) -> str | None:
    """Say what is wrong with a segmentation of an image of this size, in a few words; None if nothing is."""
    if isinstance(segmentation, dict):
        return _problem_with_run_lengths(segmentation, width, height)
    if not isinstance(segmentation, list) or not segmentation:
        return "polygons or run lengths are expected"
    for number, polygon in enumerate(segmentation):
        which = f"polygon {number} (counted from 0)"
        if not isinstance(polygon, list) or {type(value) for value in polygon} - {int, float}:
            return f"{which} is no list of numbers"
        if len(polygon) < _LEAST_COORDINATES or len(polygon) % 2:
            return f"{which} has {len(polygon)} coordinates; an even number from 6 on is allowed"
        for values, side in ((polygon[::2], width), (polygon[1::2], height)):
            # Also not finite ones. A little outside is usual; what is far outside takes pycocotools endless memory.
            far = [value for value in values if not -side <= value <= 2 * side]
            if far:
                return f"{which} has the coordinate {far[0]}, far outside the image"
    return None


def _problem_with_run_lengths(segmentation: dict[str, Any], width: int, height: int) -> str | None:
    if segmentation.get("size") != [height, width]:
        return f"run lengths of size {segmentation.get('size')}; [height, width] of the image is {[height, width]}"
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        counts = run_lengths(counts)
        if counts is None:
            return "counts: not COCO's text of run lengths"
    elif not isinstance(counts, list) or {type(count) for count in counts} - {int}:
        return "counts: a text or a list of whole numbers is expected"
    if min(counts, default=0) < 0:
        return f"counts: a run of length {min(counts)}"
    if sum(counts) != width * height:
        return f"counts: the runs are {sum(counts)} pixels long; the image has {width * height}"
    return None


def run_lengths(counts: str) -> list[int] | None:
    """Read COCO's text of run lengths; None if it is none.

    Every number is written in groups of five bits, lowest first, each as one character from ``0`` on; a sixth bit says
    that more follow. From the fourth on, numbers are differences to the number two before.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        group = ord(character) - 48
        if not 0 <= group < 64:
            return None
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    return None if shift else lengths


def encoded(segmentation: Segmentation, width: int, height: int) -> dict[str, Any]:
    """Encode a segmentation that :func:`problem_with` finds nothing wrong with.

    Polygons are filled as pycocotools does, which is how COCO's areas and AP are defined.

    Returns
    -------
    dict
        ``size`` [height, width] and ``counts`` in COCO's text.
    """
    if isinstance(segmentation, dict):
        if isinstance(segmentation["counts"], str):
            return {"size": [height, width], "counts": segmentation["counts"]}
        made = rle.frPyObjects(segmentation, height, width)
    else:
        made = rle.merge(rle.frPyObjects([list(polygon) for polygon in segmentation], height, width))
    return {"size": [height, width], "counts": made["counts"].decode()}


def encoded_bitmap(bitmap: np.ndarray) -> str:
    """Run lengths of a bitmap, bool or uint8 [height, width], in COCO's text."""
    return rle.encode(np.asfortranarray(bitmap, dtype=np.uint8))["counts"].decode()


def bitmap(segmentation: Segmentation, width: int, height: int) -> np.ndarray:
    """Fill a segmentation, uint8 [height, width] of 0 and 1."""
    return rle.decode(encoded(segmentation, width, height))
