"""How regressors and classifiers do as a function of the IoU of the RoIs that they are given.

The questions are those of Cai and Vasconcelos, Cascade R-CNN, TPAMI 2019: output IoU against input IoU of each
regressor (Fig. 2a), of the same regressor applied again (Fig. 9a), and the classification loss against IoU (Fig. 2b).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from cascadebench.diagnostics.boxes import IOU_BINS, best_ground_truth, iou_bin, paired_iou
from cascadebench.diagnostics.observations import GroundTruthBoxes, ImageObservation, StagePrediction
from cascadebench.metrics.coco.parquet import WORD, required

PARTS = ("regressor", "regressors so far", "classifier")
LOCALIZATION = pa.schema(
    [
        required("part", WORD),
        required("stage", pa.int32()),
        required("iou_low", pa.float64()),
        required("count", pa.int64()),
        required("value_sum", pa.float64()),
        required("value_square_sum", pa.float64()),
    ]
)
"""Columns of ``localization.parquet``: one row per part, stage and bin of input IoU.

The part ``regressor`` holds the IoU of the boxes that leave a stage by the IoU of the RoIs that enter it; ``regressors
so far`` by that of the proposals; ``classifier`` holds the classification loss by the IoU of the RoIs that enter.
"""
SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""A probability that single precision made 0 counts as this."""


class Localization:
    """Sums over the images of a prediction pass.

    RoIs that overlap no ground truth count for the classifiers, as background, and not for the regressors. Crowd
    regions are left out, so a RoI on a crowd counts as background.

    Parameters
    ----------
    iou_thresholds : sequence of float
        Of every stage; at or above it, the class of the best ground truth is a RoI's label, below it background.
    """

    def __init__(self, iou_thresholds: Sequence[float]) -> None:
        self._thresholds = tuple(iou_thresholds)
        # part, stage, bin, (count, sum, sum of squares)
        self._sums = np.zeros((len(PARTS), len(self._thresholds), IOU_BINS, 3))
        self._seen = np.zeros((len(PARTS), len(self._thresholds)), dtype=bool)

    def add(self, observation: ImageObservation, ground_truth: GroundTruthBoxes) -> None:
        """Count the stages of one image."""
        truth = ground_truth.without_crowd()
        first = best_ground_truth(observation.proposals, truth.boxes)
        for stage, seen in enumerate(observation.stages):
            entering = best_ground_truth(seen.rois, truth.boxes)
            if seen.boxes is not None:
                self._add_output("regressor", stage, seen.boxes, entering, truth.boxes)
                self._add_output("regressors so far", stage, seen.boxes, first, truth.boxes)
            if seen.probabilities is not None:
                self._add_loss(stage, seen, entering, truth.labels)

    def _add_output(
        self, part: str, stage: int, boxes: np.ndarray, entering: tuple[np.ndarray, np.ndarray], truth: np.ndarray
    ) -> None:
        ious, places = entering
        if len(boxes) != len(ious):
            raise ValueError(f"stage {stage + 1}: {len(boxes)} boxes for {len(ious)} RoIs")
        near = places >= 0
        output = paired_iou(boxes[near], truth[places[near]])
        self._add(part, stage, ious[near], output)

    def _add_loss(
        self, stage: int, seen: StagePrediction, entering: tuple[np.ndarray, np.ndarray], labels: np.ndarray
    ) -> None:
        ious, places = entering
        background = seen.probabilities.shape[1] - 1
        positive = (ious >= self._thresholds[stage]) & (places >= 0)
        expected = np.full(len(ious), background)
        expected[positive] = labels[places[positive]]
        chosen = seen.probabilities[np.arange(len(ious)), expected].astype(np.float64)
        self._add("classifier", stage, ious, -np.log(np.maximum(chosen, SMALLEST_PROBABILITY)))

    def _add(self, part: str, stage: int, ious: np.ndarray, values: np.ndarray) -> None:
        position, bins = PARTS.index(part), iou_bin(ious)
        self._seen[position, stage] = True
        for column, weights in enumerate((None, values, values**2)):
            self._sums[position, stage, :, column] += np.bincount(bins, weights, minlength=IOU_BINS)

    def table(self) -> pd.DataFrame:
        """Return the columns of :data:`LOCALIZATION`; stages without a part have no rows of it."""
        rows = [
            (part, stage + 1, number / IOU_BINS, *self._sums[position, stage, number])
            for position, part in enumerate(PARTS)
            for stage in range(len(self._thresholds))
            if self._seen[position, stage]
            for number in range(IOU_BINS)
        ]
        return pd.DataFrame(rows, columns=LOCALIZATION.names).astype({"count": "int64", "stage": "int32"})
