"""Average precision of masks: pycocotools gives the IoU of run-length encodings, the kernel does the rest."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as run_lengths

from cascadebench.errors import InputError
from cascadebench.evaluation.accumulation import accumulate
from cascadebench.evaluation.coco import ap_rows
from cascadebench.evaluation.detection_order import OrderedDetections, ordered_detections
from cascadebench.evaluation.ground_truth import read_ground_truth
from cascadebench.evaluation.ground_truth_table import GroundTruthTable, check_known, ground_truth_table
from cascadebench.evaluation.json_entries import check_objects, integers, numbers
from cascadebench.evaluation.matching import Matches, Overlaps, match
from cascadebench.files import read_json

_ALLOWED = "polygons [[x1, y1, x2, y2, ...], ...] or a run-length encoding {'size': [h, w], 'counts': ...}"


def evaluate_masks(ground_truth: Path | dict[str, Any], results: Path | list[dict[str, Any]]) -> pd.DataFrame:
    """Evaluate COCO results with masks.

    Parameters
    ----------
    ground_truth : Path or dict
        COCO annotations whose every annotation has a ``segmentation``, and every image its ``height`` and ``width``.
    results : Path or list of dict
        COCO results: ``image_id``, ``category_id``, ``score``, ``segmentation`` (run-length encoding).

    Returns
    -------
    DataFrame
        As :func:`cascadebench.evaluation.coco.evaluate` returns it, with the test stage ``""``. Areas are those of the
        annotations' key ``area`` and of the detections' masks.

    Raises
    ------
    InputError
        If an entry is malformed or the results do not belong to the annotations.
    """
    content = read_json(ground_truth) if isinstance(ground_truth, Path) else ground_truth
    truth = read_ground_truth(ground_truth)
    table = ground_truth_table(truth)
    return ap_rows("", truth, accumulate(table, match_masks(table, _object_masks(content, truth.source), results)))


def match_masks(
    table: GroundTruthTable, object_masks: list[dict[str, Any]], results: Path | list[dict[str, Any]], limit: int = 100
) -> Matches:
    """Match detections with masks; `object_masks` are encodings of all annotations in the order of their file."""
    where = f"{results}: " if isinstance(results, Path) else "results"
    entries = check_objects(read_json(results) if isinstance(results, Path) else results, where)
    positions = {}
    for key, index in (("image_id", table.image_index), ("category_id", table.category_index)):
        ids = integers(entries, key, where)
        positions[key] = index(ids)
        check_known(positions[key], ids, key, table, where.rstrip(": "))
    masks = [_encoding(entry.get("segmentation"), None, f"{where}[{n}]") for n, entry in enumerate(entries)]
    # One by one: given a list of more than 255, pycocotools 2.0.11 fails.
    area = np.array([run_lengths.area(mask) for mask in masks], dtype=np.float64)
    detections = ordered_detections(
        table.classes,
        positions["category_id"],
        positions["image_id"],
        numbers(entries, "score", where),
        np.zeros((len(entries), 4)),
        area,
    )
    return match(table, detections, limit=limit, overlaps=mask_overlaps(table, object_masks, detections, masks, limit))


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


def _object_masks(content: dict[str, Any], source: str) -> list[dict[str, Any]]:
    """Run-length encodings of all annotations."""
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in content["images"]}
    return [
        _encoding(entry.get("segmentation"), sizes[entry["image_id"]], f"{source}: annotations[{number}]")
        for number, entry in enumerate(content["annotations"])
    ]


def _encoding(segmentation: Any, size: tuple[int, int] | None, where: str) -> dict[str, Any]:
    """Compressed run-length encoding of a segmentation; polygons need the `size`, height and width, of the image."""
    try:
        if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
            counts = segmentation["counts"]
            counts = counts.encode() if isinstance(counts, str) else counts
            encoding = {"size": [int(side) for side in segmentation["size"]], "counts": counts}
            run_lengths.area(encoding)
            return encoding
        if isinstance(segmentation, dict):
            return run_lengths.frPyObjects(segmentation, *(size or segmentation["size"]))
        if isinstance(segmentation, list) and segmentation and size is not None:
            return run_lengths.merge(run_lengths.frPyObjects(segmentation, *size))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"{where}.segmentation: {_ALLOWED} is expected ({error})") from error
    raise InputError(f"{where}.segmentation: {_ALLOWED} is expected, found {str(segmentation)[:60]}")
