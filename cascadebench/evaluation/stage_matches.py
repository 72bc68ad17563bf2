"""Matches of every test stage out of one table of detections."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cascadebench.errors import InputError
from cascadebench.evaluation.detection_order import ordered_detections
from cascadebench.evaluation.detections import check_rows
from cascadebench.evaluation.ground_truth_table import GroundTruthTable, check_known
from cascadebench.evaluation.masks import mask_areas, mask_overlaps
from cascadebench.evaluation.matching import Matches, match


def match_stages(
    table: GroundTruthTable,
    detections: pd.DataFrame,
    test_stages: Sequence[str] = (),
    *,
    object_masks: list[dict[str, Any]] | None = None,
    source: str = "detections",
) -> dict[str, Matches]:
    """Match every test stage on its own with the same ground truth.

    Parameters
    ----------
    detections : DataFrame
        test_stage, image_id, category_id, score, x, y, w, h.
    test_stages : sequence of str
        Test stages that come first, whether or not they have detections; further ones follow as they appear.
    object_masks : list of dict or None
        Run-length encodings of all annotations, in the order of their file: then masks overlap, and `detections` has a
        column ``segmentation`` of run-length encodings. None: boxes overlap.
    source : str
        What messages call the detections, e.g. their file.

    Raises
    ------
    InputError
        If a detection is not finite, has a negative side, or is on an image or category that `table` does not have; or
        if there is no test stage at all.
    """
    check_rows(detections, source)
    positions = {}
    for key, index in (("image_id", table.image_index), ("category_id", table.category_index)):
        ids = detections[key].to_numpy()
        positions[key] = index(ids)
        check_known(positions[key], ids, key, table, source)
    labels = list(dict.fromkeys([*test_stages, *detections["test_stage"].unique()]))
    if not labels:
        raise InputError(f"{source}: no detection, and no test stage is named that could have none")
    score = detections["score"].to_numpy()
    box = detections[["x", "y", "w", "h"]].to_numpy(dtype=np.float64)
    matches = {}
    for label in labels:
        rows = np.flatnonzero(detections["test_stage"] == label)
        category, image = positions["category_id"][rows], positions["image_id"][rows]
        if object_masks is None:
            matches[label] = match(table, ordered_detections(table.classes, category, image, score[rows], box[rows]))
        else:
            masks = [detections["segmentation"].iat[row] for row in rows]
            found = ordered_detections(
                table.classes, category, image, score[rows], np.zeros((len(rows), 4)), mask_areas(masks)
            )
            matches[label] = match(table, found, overlaps=mask_overlaps(table, object_masks, found, masks))
    return matches
