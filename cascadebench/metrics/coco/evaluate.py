"""The one evaluator: average precision of every test stage, category, area and IoU threshold, by COCO's rules."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cascadebench.metrics.coco.accumulation import Accumulation, accumulate, mean_of_known
from cascadebench.metrics.coco.ground_truth import ALL, GroundTruth, read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import ground_truth_table
from cascadebench.metrics.coco.rules import AREAS, IOUS, LIMITS, MAX_DETS
from cascadebench.metrics.coco.stage_matches import match_stages


def evaluate(
    ground_truth: Path | dict[str, Any],
    detections: pd.DataFrame,
    test_stages: Sequence[str] = (),
    *,
    source: str = "detections",
    iou_type: str = "bbox",
) -> pd.DataFrame:
    """Evaluate every test stage on its own.

    The rules are pycocotools' and so are the numbers, to the bit: an ``ignore`` key of an annotation has no effect
    (``iscrowd`` overwrites it), images without detections count with their ground truth, and detections beyond
    `max_dets` per image and category do not count. Two things are not: a ground truth of annotation id 0 is a ground
    truth like others, whereas pycocotools counts its match as none; and where masks overlap, the area of a detection is
    that of its mask, whereas pycocotools takes that of the box if the results have boxes, too.

    Parameters
    ----------
    ground_truth : Path or dict
        COCO annotations, see :func:`cascadebench.metrics.coco.ground_truth.read_ground_truth`.
    detections : DataFrame
        As :func:`cascadebench.metrics.coco.detections.read_detections` and ``read_coco_results`` return it.
    test_stages : sequence of str
        Test stages that must be in the table; one without a single detection has AP 0. Further ones that `detections`
        holds follow in the order in which they appear.
    source : str
        What messages call the detections, e.g. their file.
    iou_type : str
        ``bbox``, or ``segm``: masks overlap, every annotation and every detection has one.

    Returns
    -------
    DataFrame
        test_stage, iou_type, category (``all`` first, then names in the order of their ids), area, max_dets, iou, ap,
        recall. The rows of the category ``all`` are means over the categories with ground truth. Their mean over `iou`
        is COCO's AP (of `ap`) and AR (of `recall`). NaN: no ground truth in this category and area.

    Raises
    ------
    InputError
        If the annotations are malformed, or a detection is not finite, on an image or category that they do not have,
        or without a mask that is asked for.
    """
    truth = read_ground_truth(ground_truth, segmentations=iou_type == "segm")
    table = ground_truth_table(truth)
    masks = truth if iou_type == "segm" else None
    matched = match_stages(table, detections, test_stages, source=source, masks=masks)
    tables = [_table(label, iou_type, truth, accumulate(table, found)) for label, found in matched]
    return pd.concat(tables, ignore_index=True)


def _table(test_stage: str, iou_type: str, truth: GroundTruth, accumulation: Accumulation) -> pd.DataFrame:
    """Rows of one test stage, as :func:`evaluate` returns them."""
    rows = [
        (test_stage, iou_type, category, area, max_dets, iou)
        for category in (ALL, *truth.category_names)
        for area, max_dets in LIMITS
        for iou in IOUS
    ]
    table = pd.DataFrame(rows, columns=["test_stage", "iou_type", "category", "area", "max_dets", "iou"])
    # In C order, because the order of axes in memory decides in which order a mean adds up.
    ap, recall = (_in_row_order(values.copy(order="C")) for values in (accumulation.ap, accumulation.recall))
    return table.astype({"max_dets": "int32"}).assign(ap=ap, recall=recall)


def _in_row_order(values: np.ndarray) -> np.ndarray:
    """Put the mean over categories before them and flatten as category, limits, IoU threshold; NaN in place of -1."""
    every = np.concatenate([mean_of_known(values, axis=1)[:, None], np.where(values < 0, np.nan, values)], axis=1)
    chosen = [every[:, :, AREAS.index(area), MAX_DETS.index(count)] for area, count in LIMITS]
    return np.stack(chosen).transpose(2, 0, 1).ravel()
