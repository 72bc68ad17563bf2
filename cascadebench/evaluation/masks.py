"""Overlap of masks: pycocotools gives the IoU of run-length encodings, the kernel does the rest."""

from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from cascadebench.evaluation.detection_order import OrderedDetections
from cascadebench.evaluation.ground_truth_table import GroundTruthTable
from cascadebench.evaluation.matching import Overlaps


def mask_areas(masks: list[dict[str, Any]]) -> np.ndarray:
    """Area of every mask in pixels, float64; one by one: pycocotools 2.0.11 fails on a list of more than 255."""
    return np.array([run_lengths.area(mask) for mask in masks], dtype=np.float64)


def mask_overlaps(
    table: GroundTruthTable,
    object_masks: list[dict[str, Any]],
    detections: OrderedDetections,
    masks: list[dict[str, Any]],
    limit: int = 100,
) -> Overlaps:
    """IoU of masks of the same class and image.

    Parameters
    ----------
    object_masks : list of dict
        Run-length encodings of all annotations, in the order of their file.
    masks : list of dict
        Run-length encodings of all detections, in the order in which they were given.
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
        truth = [object_masks[row] for row in table.order[of_cell]]
        values = run_lengths.iou(found, truth, table.crowd[of_cell].astype(np.uint8))
        iou[start[rows][:, None] + np.arange(len(truth))] = values
    return Overlaps(start, iou)
