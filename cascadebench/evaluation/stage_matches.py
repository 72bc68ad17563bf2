"""Matches of every test stage out of one table of detections."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cascadebench.errors import InputError
from cascadebench.evaluation.ap_table import MAX_DETS
from cascadebench.evaluation.detection_order import ordered_detections
from cascadebench.evaluation.detections import check_rows
from cascadebench.evaluation.ground_truth import GroundTruth
from cascadebench.evaluation.ground_truth_table import GroundTruthTable, check_known
from cascadebench.evaluation.mask_overlaps import detected_masks, mask_areas, mask_overlaps
from cascadebench.evaluation.matching import Matches, match

LIMIT = MAX_DETS[-1]
"""Detections per image and class that are matched."""


def match_stages(
    table: GroundTruthTable,
    detections: pd.DataFrame,
    test_stages: Sequence[str] = (),
    *,
    source: str = "detections",
    masks: GroundTruth | None = None,
) -> dict[str, Matches]:
    """Match every test stage on its own with the same ground truth.

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
        If a detection is not finite, has a negative side, is on an image or category that `table` does not have, or
        lacks a mask that is asked for; or if there is no test stage at all.
    """
    check_rows(detections, source)
    positions = {}
    for key, index in (("image_id", table.image_index), ("category_id", table.category_index)):
        ids = detections[key].to_numpy()
        positions[key] = index(ids)
        check_known(positions[key], ids, key, table, source)
    found_masks = None if masks is None else detected_masks(detections, masks, source)
    labels = list(dict.fromkeys([*test_stages, *detections["test_stage"].unique()]))
    if not labels:
        raise InputError(f"{source}: no detection, and no test stage is named that could have none")
    score = detections["score"].to_numpy()
    box = detections[["x", "y", "w", "h"]].to_numpy(dtype=np.float64)
    matches = {}
    for label in labels:
        rows = np.flatnonzero(detections["test_stage"] == label)
        of_stage = positions["category_id"][rows], positions["image_id"][rows], score[rows], box[rows]
        if masks is None or found_masks is None:
            matches[label] = match(table, ordered_detections(table.classes, *of_stage), limit=LIMIT)
            continue
        run_lengths = [found_masks[row] for row in rows]
        ordered = ordered_detections(table.classes, *of_stage, mask_areas(run_lengths))
        overlaps = mask_overlaps(table, masks.boxes["segmentation"].tolist(), ordered, run_lengths, LIMIT)
        matches[label] = match(table, ordered, limit=LIMIT, overlaps=overlaps)
    return matches
