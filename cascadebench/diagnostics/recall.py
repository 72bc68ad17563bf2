"""Recall of the proposals and of the boxes that leave each stage, whatever their class.

The question is that of Cai and Vasconcelos, Cascade R-CNN, TPAMI 2019, Table 8; its stage t is what enters stage t, so
its first row is the stage 0 of here. The numbers are those of pycocotools without categories.
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from cascadebench.diagnostics.boxes import iou_matrix
from cascadebench.diagnostics.observations import GroundTruthBoxes, ImageObservation
from cascadebench.metrics.coco.matching import match_boxes
from cascadebench.metrics.coco.parquet import WORD, required
from cascadebench.metrics.coco.rules import AREA_ENDS, AREAS, IOU_THRESHOLDS, IOUS

LIMITS = (100, 300, 1000)
"""Boxes per image that count, by objectness."""

RECALL = pa.schema(
    [
        required("stage", pa.int32()),
        required("area", WORD),
        required("limit", pa.int32()),
        required("iou", pa.float64()),
        required("matched", pa.int64()),
        required("total", pa.int64()),
    ]
)
"""Columns of ``recall.parquet``; stage 0 are the proposals. The mean of matched / total over `iou` is COCO's AR."""


class Recall:
    """Matched and all ground truth over the images of a prediction pass; `stages` may have a regressor."""

    def __init__(self, stages: int) -> None:
        self._matched = np.zeros((stages + 1, len(AREAS), len(LIMITS), len(IOUS)), dtype=np.int64)
        self._total = np.zeros(len(AREAS), dtype=np.int64)
        self._seen = np.zeros(stages + 1, dtype=bool)

    def add(self, observation: ImageObservation, ground_truth: GroundTruthBoxes) -> None:
        """Match the boxes of one image, ranked by the objectness of the proposal that each came from."""
        truth = ground_truth.without_crowd()
        outside = (truth.areas < AREA_ENDS[:, :1]) | (truth.areas > AREA_ENDS[:, 1:])
        self._total += (~outside).sum(axis=1)
        ranking = np.argsort(-np.asarray(observation.objectness), kind="stable")[: LIMITS[-1]]
        after_stages = [observation.proposals, *(stage.boxes for stage in observation.stages)]
        for stage, boxes in enumerate(after_stages):
            if boxes is None:
                continue
            if len(boxes) != len(observation.objectness):
                raise ValueError(f"stage {stage}: {len(boxes)} boxes for {len(observation.objectness)} proposals")
            self._seen[stage] = True
            matched, _ = match_boxes(iou_matrix(boxes[ranking], truth.boxes), IOU_THRESHOLDS, outside)
            self._matched[stage] += np.stack([matched[..., :limit].sum(axis=2) for limit in LIMITS], axis=1)

    def table(self) -> pd.DataFrame:
        """Return the columns of :data:`RECALL`; a stage without a regressor has no rows."""
        rows = [
            (stage, area, limit, iou, self._matched[stage, a, n, t], self._total[a])
            for stage in np.flatnonzero(self._seen)
            for a, area in enumerate(AREAS)
            for n, limit in enumerate(LIMITS)
            for t, iou in enumerate(IOUS)
        ]
        return pd.DataFrame(rows, columns=RECALL.names)


def average_recall(table: pd.DataFrame) -> pd.Series:
    """COCO's AR by stage, area and limit; NaN without ground truth in the area."""
    sums = table.groupby(["stage", "area", "limit"], sort=False, observed=True)[["matched", "total"]].sum()
    return sums["matched"] / sums["total"].where(sums["total"] > 0)
