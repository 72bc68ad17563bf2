"""Average precision by pycocotools, the field's reference."""

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cascadebench.evaluation.ap_table import AREAS, MAX_DETS
from cascadebench.evaluation.ground_truth import GroundTruth

_MASK = {"bbox": [], "segm": ["segmentation"]}
"""Further columns of annotations that a kind of IoU reads."""


def average_precision(
    truth: GroundTruth, detections: pd.DataFrame, iou_type: str = "bbox"
) -> tuple[np.ndarray, np.ndarray]:
    """Match the detections of one test stage and average their precision over recall.

    Parameters
    ----------
    detections : DataFrame
        image_id, category_id, score, x, y, w, h, or segmentation (run lengths with their size) in place of the box; ids
        that `truth` knows. Their order decides ties, as in pycocotools.
    iou_type : str
        ``bbox`` or ``segm``: what overlaps, and whose area a detection has.

    Returns
    -------
    ap, recall : ndarray, float64 [10 IoU thresholds, categories, 4 areas, 3 max_dets]
        Mean of the interpolated precision at 101 recalls, and the highest recall; in [0, 1], NaN for a category without
        ground truth in the area (crowd regions do not count as such).
    """
    with redirect_stdout(io.StringIO()):
        objects, found = _ground_truth(truth, iou_type), _found(detections, iou_type)
        evaluation = COCOeval(_indexed(truth, objects), _indexed(truth, found), iou_type)
        parameters = evaluation.params
        if tuple(parameters.areaRngLbl) != AREAS or tuple(parameters.maxDets) != MAX_DETS:
            raise RuntimeError("this pycocotools has other areas or limits of detections than COCO's")
        evaluation.evaluate()
        evaluation.accumulate()
    ap = evaluation.eval["precision"].mean(axis=1)
    recall = evaluation.eval["recall"]
    absent = recall < 0
    return np.where(absent, np.nan, ap), np.where(absent, np.nan, recall)


def _indexed(truth: GroundTruth, annotations: list[dict[str, Any]]) -> COCO:
    """Wrap annotations in pycocotools' object; its own ``loadRes`` fails on an empty list."""
    coco = COCO()
    coco.dataset = {
        "images": [_image(truth, image_id) for image_id in truth.image_ids.tolist()],
        "categories": [{"id": category_id} for category_id in truth.category_ids.tolist()],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _image(truth: GroundTruth, image_id: int) -> dict[str, int]:
    """An image, with its size if there are masks in it."""
    sides = zip(("width", "height"), truth.image_sizes.get(image_id, ()), strict=False)
    return {"id": image_id, **dict(sides)}


def _ground_truth(truth: GroundTruth, iou_type: str) -> list[dict[str, Any]]:
    """Annotations numbered from 1: pycocotools takes a match with id 0 for no match."""
    return _annotations(truth.boxes, ["image_id", "category_id", "area", "iscrowd", *_MASK[iou_type]])


def _found(detections: pd.DataFrame, iou_type: str) -> list[dict[str, Any]]:
    """Detections with the area of their mask, or of their box in double precision."""
    sides = detections[["w", "h"]].to_numpy(dtype=np.float64)
    areas = sides.prod(axis=1) if iou_type == "bbox" else _mask_areas(detections)
    rows = detections.assign(area=np.asarray(areas, dtype=np.float64))
    return _annotations(rows, ["image_id", "category_id", "area", "score", *_MASK[iou_type]])


def _mask_areas(detections: pd.DataFrame) -> list[int]:
    """Area of every mask in pixels, one by one: pycocotools 2.0.11 fails on a list of more than 255."""
    return [int(rle.area(mask)) for mask in detections["segmentation"]]


def _annotations(rows: pd.DataFrame, keys: list[str]) -> list[dict[str, Any]]:
    boxes = rows[["x", "y", "w", "h"]].to_numpy(dtype=np.float64).tolist()
    columns = zip(*(rows[key].tolist() for key in keys), strict=True)
    return [
        {"id": number, "bbox": box, **dict(zip(keys, values, strict=True))}
        for number, (box, values) in enumerate(zip(boxes, columns, strict=True), start=1)
    ]
