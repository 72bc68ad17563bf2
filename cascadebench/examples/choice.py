"""Which images are shown: a rule that looks at both directions alike, so that it flatters nobody."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cascadebench.datasets.prepared import ImageRecord
from cascadebench.diagnostics.boxes import corners, iou_matrix
from cascadebench.examples.records import Reason
from cascadebench.metrics.coco.matching import match_boxes

MATCH_IOU = 0.5
"""IoU from which a detection finds an object of its class."""
MOST_DIFFERENT = 2
"""Images with the largest difference, in each direction."""
EVENLY_SPACED = 2
"""Images at evenly spaced positions among all, in the order of their ids."""


def match_image(record: ImageRecord, rows: pd.DataFrame, category_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Match the detections of an image with its objects, class by class, as COCO does at :data:`MATCH_IOU`.

    Parameters
    ----------
    rows : DataFrame
        category_id, x, y, w, h of the image's detections, best score first.
    category_ids : sequence of int
        Category id of every label.

    Returns
    -------
    of_detections : ndarray, bool [detections]
        Whether each found an object.
    of_objects : ndarray, bool [objects]
        Whether each was found.
    """
    same = rows["category_id"].to_numpy()[:, None] == np.asarray(category_ids)[record.labels]
    overlaps = np.where(same, iou_matrix(corners(rows), record.boxes), -1.0)
    of_detections, of_objects = match_boxes(overlaps, np.array([MATCH_IOU]))
    return of_detections[0, 0], of_objects[0, 0]


def found_per_image(
    records: Sequence[ImageRecord], detections: pd.DataFrame, category_ids: Sequence[int]
) -> dict[int, int]:
    """Number of objects that detections, best score first, find in every image, by image id."""
    rows_of = detections.groupby("image_id", sort=False).indices
    counts = dict.fromkeys((record.id for record in records), 0)
    for record in records:
        if record.id in rows_of:
            rows = detections.iloc[rows_of[record.id]]
            counts[record.id] = int(match_image(record, rows, category_ids)[1].sum())
    return counts


def chosen_images(image_ids: Sequence[int], differences: Mapping[int, int]) -> list[tuple[int, Reason]]:
    """Choose images: the largest differences in both directions, then evenly spaced ones that are not among these.

    Parameters
    ----------
    image_ids : sequence of int
        All images, in rising order.
    differences : mapping of int to int
        Objects found more than the baseline finds, by image id; images without an entry differ by none. Of equal
        differences the lower id is taken.
    """
    more = sorted((image for image in image_ids if differences.get(image, 0) > 0), key=lambda i: (-differences[i], i))
    fewer = sorted((image for image in image_ids if differences.get(image, 0) < 0), key=lambda i: (differences[i], i))
    chosen: list[tuple[int, Reason]] = [(image, "more found") for image in more[:MOST_DIFFERENT]]
    chosen += [(image, "fewer found") for image in fewer[:MOST_DIFFERENT]]
    left = [image for image in image_ids if image not in dict(chosen)]
    count = min(EVENLY_SPACED, len(left))
    spaced = [left[int((k + 0.5) * len(left) / count)] for k in range(count)]
    return chosen + [(image, "evenly spaced") for image in spaced]
