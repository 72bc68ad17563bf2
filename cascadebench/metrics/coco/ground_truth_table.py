"""Ground truth as matching reads it: prepared once, for any number of sets of detections."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.ground_truth import GroundTruth
from cascadebench.metrics.coco.rules import AREA_ENDS


@dataclass(frozen=True)
class GroundTruthTable:
    """Objects in the order category, image, order of the file; and the ids that indices stand for."""

    source: str
    """File that they came from, for messages."""
    image_ids: np.ndarray
    """int64 [images]: in rising order."""
    category_ids: np.ndarray
    """int64 [categories]: in rising order."""
    start: np.ndarray
    """int64 [classes * images + 1]: objects of class c in image i are ``start[c * images + i]`` up to, without,
    ``start[c * images + i + 1]``."""
    order: np.ndarray
    """int64 [objects]: row of every object in the annotation file."""
    image: np.ndarray
    """int32 [objects]: index into `image_ids`."""
    box: np.ndarray
    """float64 [objects, 4]: x, y, width, height in pixels."""
    crowd: np.ndarray
    """bool [objects]: a crowd region, which takes any number of detections, and counts neither for nor against them."""
    ignored: np.ndarray
    """bool [4 areas, objects]: a crowd region, or an area outside the range."""
    counted: np.ndarray
    """int64 [4 areas, classes]: objects that are not ignored, the denominators of recall."""

    @property
    def classes(self) -> int:
        """Number of categories."""
        return len(self.category_ids)

    @property
    def known_classes(self) -> int:
        """Number of categories with an object that counts."""
        return int(np.count_nonzero(self.counted[0]))

    def image_index(self, image_ids: np.ndarray) -> np.ndarray:
        """Positions of image ids, int64 [N]; -1 for one that is not there."""
        return _positions(self.image_ids, image_ids)

    def category_index(self, category_ids: np.ndarray) -> np.ndarray:
        """Positions of category ids, int64 [N]; -1 for one that is not there."""
        return _positions(self.category_ids, category_ids)


def ground_truth_table(truth: GroundTruth) -> GroundTruthTable:
    """Order the ground truth for matching."""
    images, classes = len(truth.image_ids), len(truth.category_ids)
    rows = truth.boxes
    image = _positions(truth.image_ids, rows["image_id"].to_numpy())
    category = _positions(truth.category_ids, rows["category_id"].to_numpy())
    cell = category * images + image
    order = np.argsort(cell, kind="stable")
    start = np.zeros(classes * images + 1, dtype=np.int64)
    np.cumsum(np.bincount(cell, minlength=classes * images), out=start[1:])
    crowd = rows["iscrowd"].to_numpy()[order] == 1
    area = rows["area"].to_numpy(dtype=np.float64)[order]
    ignored = crowd | (area < AREA_ENDS[:, :1]) | (area > AREA_ENDS[:, 1:])
    counted = np.stack([np.bincount(category[order][~row], minlength=classes) for row in ignored])
    return GroundTruthTable(
        source=truth.source,
        image_ids=truth.image_ids,
        category_ids=truth.category_ids,
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


def check_known(detections: pd.DataFrame, table: GroundTruthTable, source: str) -> None:
    """Raise InputError at a detection whose image or category the ground truth lacks; `source` names the detections."""
    for key, index in (("image_id", table.image_index), ("category_id", table.category_index)):
        ids = detections[key].to_numpy()
        if (index(pd.unique(ids)) < 0).any():  # positions of all rows would be several copies of the column
            row = int((index(ids) < 0).argmax())
            raise InputError(f"{source}: row {row} (counted from 0): {key} {ids[row]} is not in {table.source}")
