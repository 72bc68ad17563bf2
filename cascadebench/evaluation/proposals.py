"""Average recall of proposals: class-agnostic, at the best 100, 300 and 1000 of every image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cascadebench.evaluation.accumulation import accumulate
from cascadebench.evaluation.ap_table import AREAS, IOUS
from cascadebench.evaluation.coco_rules import PROPOSAL_LIMITS
from cascadebench.evaluation.detection_order import ordered_detections
from cascadebench.evaluation.detections import check_rows
from cascadebench.evaluation.ground_truth import read_ground_truth
from cascadebench.evaluation.ground_truth_table import check_known, ground_truth_table
from cascadebench.evaluation.matching import match


def proposal_recall(
    ground_truth: Path | dict[str, Any],
    proposals: pd.DataFrame,
    limits: Sequence[int] = PROPOSAL_LIMITS,
    *,
    source: str = "proposals",
) -> pd.DataFrame:
    """Recall of proposals at every IoU threshold, as pycocotools gives it with ``useCats = 0``.

    Proposals and objects are matched like detections and objects of one single class: one to one, best score first.

    Parameters
    ----------
    ground_truth : Path or dict
        COCO annotations.
    proposals : DataFrame
        image_id, score, x, y, w, h, as :func:`cascadebench.evaluation.detections.read_proposals` returns them.
    limits : sequence of int
        Numbers of best proposals per image, rising.
    source : str
        What messages call the proposals, e.g. their file.

    Returns
    -------
    DataFrame
        area, max_dets, iou, recall; AR is the mean of `recall` over `iou`. NaN: no ground truth in the area.

    Raises
    ------
    InputError
        If the annotations are malformed, or a proposal is not finite or on an image that they do not have.
    """
    table = ground_truth_table(read_ground_truth(ground_truth), class_agnostic=True)
    check_rows(proposals, source)
    ids = proposals["image_id"].to_numpy()
    image = table.image_index(ids)
    check_known(image, ids, "image_id", table, source)
    box = proposals[["x", "y", "w", "h"]].to_numpy(dtype=np.float64)
    ordered = ordered_detections(1, np.zeros(len(image)), image, proposals["score"].to_numpy(), box)
    recall = accumulate(table, match(table, ordered, limit=max(limits)), limits).recall[:, 0]
    rows = [
        (area, count, iou, recall[t, a, m])
        for a, area in enumerate(AREAS)
        for m, count in enumerate(limits)
        for t, iou in enumerate(IOUS)
    ]
    return pd.DataFrame(rows, columns=["area", "max_dets", "iou", "recall"]).replace({"recall": {-1.0: np.nan}})
