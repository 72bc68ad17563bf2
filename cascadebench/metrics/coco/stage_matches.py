"""Matches of every test stage out of one table of detections, by boxes or by masks.

pycocotools gives the IoU of masks from run lengths; the kernel does the rest.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as rle

from cascadebench.core.errors import InputError
from cascadebench.datasets.masks import encoded, problem_with
from cascadebench.metrics.coco.detection_order import OrderedDetections, ordered_detections
from cascadebench.metrics.coco.detections import check_rows
from cascadebench.metrics.coco.ground_truth import GroundTruth
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable, check_known
from cascadebench.metrics.coco.matching import Matches, Overlaps, match
from cascadebench.metrics.coco.rules import MAX_DETS

LIMIT = MAX_DETS[-1]
"""Detections per image and class that are matched."""


def match_stages(
    table: GroundTruthTable,
    detections: pd.DataFrame,
    test_stages: Sequence[str] = (),
    *,
    source: str = "detections",
    masks: GroundTruth | None = None,
) -> Iterator[tuple[str, Matches]]:
    """Match one test stage after the other; what a stage needs is in memory only while it is matched.

    Parameters
    ----------
    detections : DataFrame
        test_stage, image_id, category_id, score, x, y, w, h; and segmentation, if masks are to overlap.
    test_stages : sequence of str
        Test stages that come first, whether or not they have detections; further ones follow as they appear.
    source : str
        What messages call the detections, e.g. their file.
    masks : GroundTruth, optional
        What `table` was made of, read with segmentations, if masks are to overlap; otherwise boxes do.

    Raises
    ------
    InputError
        At the first step, if a detection is not finite, has a negative side, is on an image or category that `table`
        does not have, or lacks a mask that is asked for; or if there is no test stage at all.
    """
    check_rows(detections, source)
    check_known(detections, table, source)
    run_lengths = None if masks is None else _detected_masks(detections, masks, source)
    labels = list(dict.fromkeys([*test_stages, *detections["test_stage"].unique()]))
    if not labels:
        raise InputError(f"{source}: no detection, and no test stage is named that could have none")
    for label in labels:
        rows = np.flatnonzero(detections["test_stage"] == label)
        if masks is None or run_lengths is None:
            yield label, match(table, _ordered(table, detections, rows), limit=LIMIT)
            continue
        of_stage = [run_lengths[row] for row in rows]
        # One by one, because pycocotools 2.0.11 fails on more than 255.
        areas = np.array([rle.area(mask) for mask in of_stage], dtype=np.float64)
        ordered = _ordered(table, detections, rows, areas)
        overlaps = _mask_overlaps(table, masks.boxes["segmentation"].tolist(), ordered, of_stage)
        yield label, match(table, ordered, limit=LIMIT, overlaps=overlaps)


def _ordered(
    table: GroundTruthTable, detections: pd.DataFrame, rows: np.ndarray, area: np.ndarray | None = None
) -> OrderedDetections:
    """Order the detections of some rows; with `area` in place of that of their boxes."""
    category = table.category_index(detections["category_id"].to_numpy()[rows])
    image = table.image_index(detections["image_id"].to_numpy()[rows])
    box = np.stack([detections[key].to_numpy()[rows] for key in ("x", "y", "w", "h")], axis=1)
    return ordered_detections(table.classes, category, image, detections["score"].to_numpy()[rows], box, area)


def _detected_masks(detections: pd.DataFrame, truth: GroundTruth, source: str) -> list[dict[str, Any]]:
    """Run lengths of every detection, given as an object or as their counts in COCO's text; InputError at a bad one."""
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


def _mask_overlaps(
    table: GroundTruthTable,
    object_masks: list[dict[str, Any]],
    detections: OrderedDetections,
    masks: list[dict[str, Any]],
) -> Overlaps:
    """IoU of masks of the same class and image, with run lengths of all objects and of all detections as given."""
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
        rows = rows[:LIMIT]
        of_cell = slice(table.start[cell[rows[0]]], table.start[cell[rows[0]] + 1])
        found = [masks[row] for row in detections.order[rows]]
        objects_here = [object_masks[row] for row in table.order[of_cell]]
        values = rle.iou(found, objects_here, table.crowd[of_cell].astype(np.uint8))
        iou[start[rows][:, None] + np.arange(len(objects_here))] = values
    return Overlaps(start, iou)
