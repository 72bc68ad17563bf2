"""Matches of every test stage out of one table of detections."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.detection_order import OrderedDetections, ordered_detections
from cascadebench.metrics.coco.detections import check_rows
from cascadebench.metrics.coco.ground_truth import GroundTruth
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable, check_known
from cascadebench.metrics.coco.mask_overlaps import detected_masks, mask_areas, mask_overlaps
from cascadebench.metrics.coco.matching import Matches, match
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
) -> dict[str, Matches]:
    """Match every test stage on its own with the same ground truth; see :func:`each_stage` for the parameters."""
    return dict(each_stage(table, detections, test_stages, source=source, masks=masks))


def each_stage(
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
    for key, index in (("image_id", table.image_index), ("category_id", table.category_index)):
        ids = detections[key].to_numpy()
        if (index(pd.unique(ids)) < 0).any():  # positions of all rows would be several copies of the column
            check_known(index(ids), ids, key, table, source)
    run_lengths = None if masks is None else detected_masks(detections, masks, source)
    labels = list(dict.fromkeys([*test_stages, *detections["test_stage"].unique()]))
    if not labels:
        raise InputError(f"{source}: no detection, and no test stage is named that could have none")
    for label in labels:
        rows = np.flatnonzero(detections["test_stage"] == label)
        if masks is None or run_lengths is None:
            yield label, match(table, _ordered(table, detections, rows), limit=LIMIT)
            continue
        of_stage = [run_lengths[row] for row in rows]
        ordered = _ordered(table, detections, rows, mask_areas(of_stage))
        overlaps = mask_overlaps(table, masks.boxes["segmentation"].tolist(), ordered, of_stage, LIMIT)
        yield label, match(table, ordered, limit=LIMIT, overlaps=overlaps)


def _ordered(
    table: GroundTruthTable, detections: pd.DataFrame, rows: np.ndarray, area: np.ndarray | None = None
) -> OrderedDetections:
    """Order the detections of some rows; with `area` in place of that of their boxes."""
    category = table.category_index(detections["category_id"].to_numpy()[rows])
    image = table.image_index(detections["image_id"].to_numpy()[rows])
    box = np.stack([detections[key].to_numpy()[rows] for key in ("x", "y", "w", "h")], axis=1)
    return ordered_detections(table.classes, category, image, detections["score"].to_numpy()[rows], box, area)
