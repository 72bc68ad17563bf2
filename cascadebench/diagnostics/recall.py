"""Recall of the proposals and of the boxes that leave each stage, whatever their class.

The question is that of Cai and Vasconcelos, Cascade R-CNN, TPAMI 2019, Table 8; its stage t is what enters stage t, so
its first row is the stage 0 of here. The numbers are those of pycocotools without categories.
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from cascadebench.diagnostics.boxes import greedy_match, iou_matrix
from cascadebench.diagnostics.observations import GroundTruthBoxes, ImageObservation
from cascadebench.metrics.coco.parquet import WORD, required
from cascadebench.metrics.coco.rules import AREAS, IOUS

LIMITS = (100, 300, 1000)
"""Boxes per image that count, by objectness."""
AREA_RANGES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
"""Areas of ground truth that :data:`cascadebench.metrics.coco.rules.AREAS` names, ends included."""

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
    """Matched and all ground truth over the images of a prediction pass.

    Parameters
    ----------
    stages : int
        Stages that may have a regressor.
    """

    def __init__(self, stages: int) -> None:
        self._matched = np.zeros((stages + 1, len(AREAS), len(LIMITS), len(IOUS)), dtype=np.int64)
        self._total = np.zeros(len(AREAS), dtype=np.int64)
        self._seen = np.zeros(stages + 1, dtype=bool)
        self._thresholds = np.linspace(0.5, 0.95, len(IOUS))  # as COCO has them, to the last bit

    def add(self, observation: ImageObservation, ground_truth: GroundTruthBoxes) -> None:
        """Match the boxes of one image, ranked by the objectness of the proposal that each came from."""
        truth = ground_truth.without_crowd()
        inside = [(truth.areas >= low) & (truth.areas <= high) for low, high in AREA_RANGES]
        self._total += np.array([chosen.sum() for chosen in inside])
        ranking = np.argsort(-np.asarray(observation.objectness), kind="stable")[: LIMITS[-1]]
        boxes = [observation.proposals, *(stage.boxes for stage in observation.stages)]
        for stage, found in enumerate(boxes):
            if found is None:
                continue
            if len(found) != len(observation.objectness):
                raise ValueError(f"stage {stage}: {len(found)} boxes for {len(observation.objectness)} proposals")
            self._seen[stage] = True
            overlaps = iou_matrix(found[ranking], truth.boxes)
            for area, chosen in enumerate(inside):
                taken = greedy_match(overlaps[:, chosen], self._thresholds) >= 0
                self._matched[stage, area] += np.stack([taken[:, :limit].sum(axis=1) for limit in LIMITS])

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
