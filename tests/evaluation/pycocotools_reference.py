"""Average precision by pycocotools, the field's reference, which the kernel is compared with."""

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pandas as pd
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cascadebench.evaluation.ap_table import AREAS, MAX_DETS
from cascadebench.evaluation.ground_truth import GroundTruth


def average_precision(truth: GroundTruth, detections: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Match the detections of one test stage and average their precision over recall.

    Parameters
    ----------
    detections : DataFrame
        image_id, category_id, score, x, y, w, h; ids that `truth` knows. Their order decides ties, as in pycocotools.

    Returns
    -------
    ap, recall : ndarray, float64 [10 IoU thresholds, categories, 4 areas, 3 max_dets]
        Mean of the interpolated precision at 101 recalls, and the highest recall; in [0, 1], NaN for a category without
        ground truth in the area (crowd regions do not count as such).
    """
    with redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_indexed(truth, _ground_truth(truth)), _indexed(truth, _found(detections)), "bbox")
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
        "images": [{"id": image_id} for image_id in truth.image_ids.tolist()],
        "categories": [{"id": category_id} for category_id in truth.category_ids.tolist()],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _ground_truth(truth: GroundTruth) -> list[dict[str, Any]]:
    """Annotations numbered from 1: pycocotools takes a match with id 0 for no match."""
    return _annotations(truth.boxes, ["image_id", "category_id", "area", "iscrowd"])


def _found(detections: pd.DataFrame) -> list[dict[str, Any]]:
    """Detections with the area of their box, computed in double precision."""
    sides = detections[["w", "h"]].to_numpy(dtype=np.float64)
    rows = detections.assign(area=sides.prod(axis=1))
    return _annotations(rows, ["image_id", "category_id", "area", "score"])


def _annotations(rows: pd.DataFrame, keys: list[str]) -> list[dict[str, Any]]:
    boxes = rows[["x", "y", "w", "h"]].to_numpy(dtype=np.float64).tolist()
    columns = zip(*(rows[key].tolist() for key in keys), strict=True)
    return [
        {"id": number, "bbox": box, **dict(zip(keys, values, strict=True))}
        for number, (box, values) in enumerate(zip(boxes, columns, strict=True), start=1)
    ]
