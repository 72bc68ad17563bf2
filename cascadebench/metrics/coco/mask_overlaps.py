"""IoU of masks: pycocotools gives it from run lengths, the kernel does the rest."""

from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as rle

from cascadebench.core.errors import InputError
from cascadebench.datasets.masks import encoded, problem_with
from cascadebench.metrics.coco.detection_order import OrderedDetections
from cascadebench.metrics.coco.ground_truth import GroundTruth
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable
from cascadebench.metrics.coco.matching import Overlaps


def detected_masks(detections: pd.DataFrame, truth: GroundTruth, source: str) -> list[dict[str, Any]]:
    """Run lengths of every detection, as :func:`cascadebench.datasets.masks.encoded` gives them.

    Parameters
    ----------
    detections : DataFrame
        image_id, which `truth` knows, and segmentation: run lengths as an object, or their counts in COCO's text.
    truth : GroundTruth
        Read with the sizes of its images.
    source : str
        What messages call the detections.

    Raises
    ------
    InputError
        At the first mask that is missing or malformed.
    """
    if "segmentation" not in detections:
        raise InputError(f"{source}: no column 'segmentation': these detections have no masks")
    made = []
    for row, (image_id, mask) in enumerate(zip(detections["image_id"], detections["segmentation"], strict=True)):
        width, height = truth.image_sizes[image_id]
        given = {"size": [height, width], "counts": mask} if isinstance(mask, str) else mask
        problem = problem_with(given, width, height) if isinstance(given, dict) else "missing"
        if problem:
            raise InputError(f"{source}: row {row} (counted from 0): segmentation: {problem}")
        made.append(encoded(given, width, height))
    return made


def mask_areas(masks: list[dict[str, Any]]) -> np.ndarray:
    """Area of every mask in pixels, float64 [N]; one by one, because pycocotools 2.0.11 fails on more than 255."""
    return np.array([rle.area(mask) for mask in masks], dtype=np.float64)


def mask_overlaps(
    table: GroundTruthTable,
    object_masks: list[dict[str, Any]],
    detections: OrderedDetections,
    masks: list[dict[str, Any]],
    limit: int,
) -> Overlaps:
    """IoU of masks of the same class and image.

    Parameters
    ----------
    object_masks : list of dict
        Run lengths of all annotations, in the order of their file.
    masks : list of dict
        Run lengths of all detections, in the order in which they were given.
    limit : int
        Detections per image and class that are compared, the best first.
    """
    images = len(table.image_ids)
    category = np.repeat(np.arange(table.classes), np.diff(detections.start))
    cell = category * images + detections.image
    objects = np.diff(table.start)[cell]
    start = np.cumsum(objects) - objects
    iou = np.zeros(int(objects.sum()))
    # Stable, so that within a cell the best score stays first.
    by_cell = np.argsort(cell, kind="stable")
    by_cell = by_cell[objects[by_cell] > 0]
    for rows in np.split(by_cell, np.flatnonzero(np.diff(cell[by_cell])) + 1) if len(by_cell) else []:
        rows = rows[:limit]
        of_cell = slice(table.start[cell[rows[0]]], table.start[cell[rows[0]] + 1])
        found = [masks[row] for row in detections.order[rows]]
        objects_here = [object_masks[row] for row in table.order[of_cell]]
        values = rle.iou(found, objects_here, table.crowd[of_cell].astype(np.uint8))
        iou[start[rows][:, None] + np.arange(len(objects_here))] = values
    return Overlaps(start, iou)
