"""Ground truth as matching reads it: prepared once, for any number of sets of detections."""

from dataclasses import dataclass

import numpy as np

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.ground_truth import GroundTruth
from cascadebench.metrics.coco.rules import AREA_ENDS


@dataclass(frozen=True)
class GroundTruthTable:
    """Objects in the order category, image, order of the file; and the ids that indices stand for.

    Attributes
    ----------
    source : str
        File that they came from, for messages.
    image_ids : ndarray, int64 [images]
        In rising order.
    category_ids : ndarray, int64 [categories]
        In rising order.
    classes : int
        Classes that are evaluated apart: as many as categories, or 1 where categories play no part.
    start : ndarray, int64 [classes * images + 1]
        Objects of class c in image i are ``start[c * images + i]`` up to, without, ``start[c * images + i + 1]``.
    order : ndarray, int64 [objects]
        Row of every object in the annotation file.
    image : ndarray, int32 [objects]
        Index into `image_ids`.
    box : ndarray, float64 [objects, 4]
        x, y, width, height in pixels.
    crowd : ndarray, bool [objects]
        A crowd region: it takes any number of detections, and counts neither for nor against them.
    ignored : ndarray, bool [4 areas, objects]
        A crowd region, or an area outside the range.
    counted : ndarray, int64 [4 areas, classes]
        Objects that are not ignored: the denominators of recall.
    """

    source: str
    image_ids: np.ndarray
    category_ids: np.ndarray
    classes: int
    start: np.ndarray
    order: np.ndarray
    image: np.ndarray
    box: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray
    counted: np.ndarray

    def image_index(self, image_ids: np.ndarray) -> np.ndarray:
        """Positions of image ids, int64 [N]; -1 for one that is not there."""
        return _positions(self.image_ids, image_ids)

    def category_index(self, category_ids: np.ndarray) -> np.ndarray:
        """Positions of category ids, int64 [N]; -1 for one that is not there."""
        return _positions(self.category_ids, category_ids)


def ground_truth_table(truth: GroundTruth, *, class_agnostic: bool = False) -> GroundTruthTable:
    """Order the ground truth for matching.

    Parameters
    ----------
    class_agnostic : bool
        All categories are one class, as for proposals (``useCats = 0`` in pycocotools).
    """
    images, categories = len(truth.image_ids), len(truth.category_ids)
    rows = truth.boxes
    image = _positions(truth.image_ids, rows["image_id"].to_numpy())
    category = _positions(truth.category_ids, rows["category_id"].to_numpy())
    if class_agnostic:
        # Within an image the categories still come one after the other: on equal IoU the last object wins.
        order = np.lexsort((category, image))
        classes, cell = 1, image
    else:
        classes, cell = categories, category * images + image
        order = np.argsort(cell, kind="stable")
    start = np.zeros(classes * images + 1, dtype=np.int64)
    np.cumsum(np.bincount(cell, minlength=classes * images), out=start[1:])
    crowd = rows["iscrowd"].to_numpy()[order] == 1
    area = rows["area"].to_numpy(dtype=np.float64)[order]
    ignored = crowd | (area < AREA_ENDS[:, :1]) | (area > AREA_ENDS[:, 1:])
    class_of = cell[order] // images if images else cell
    counted = np.stack([np.bincount(class_of[~row], minlength=classes) for row in ignored])
    return GroundTruthTable(
        source=truth.source,
        image_ids=truth.image_ids,
        category_ids=truth.category_ids,
        classes=classes,
        start=start,
        order=order,
        image=image[order].astype(np.int32),
        box=np.ascontiguousarray(rows[["x", "y", "w", "h"]].to_numpy(dtype=np.float64)[order]),
        crowd=crowd,
        ignored=ignored,
        counted=counted,
    )


def _positions(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Where ids stand among known ones in rising order, int64 [N]; -1: nowhere."""
    if not len(known):
        return np.full(len(ids), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[place] == ids, place, -1)


def check_known(index: np.ndarray, ids: np.ndarray, key: str, table: GroundTruthTable, source: str) -> None:
    """Raise InputError at the first detection whose image or category the ground truth lacks.

    Parameters
    ----------
    index, ids : ndarray [N]
        Positions among the known ids, -1 for none, and the ids themselves.
    key : str
        ``image_id`` or ``category_id``, for the message.
    source : str
        What the message calls the detections.
    """
    unknown = index < 0
    if unknown.any():
        row = int(unknown.argmax())
        raise InputError(f"{source}: row {row} (counted from 0): {key} {ids[row]} is not in {table.source}")
