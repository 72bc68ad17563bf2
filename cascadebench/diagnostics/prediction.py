"""The diagnostics that one prediction pass feeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cascadebench.diagnostics.localization import LOCALIZATION, Localization
from cascadebench.diagnostics.nms_survivors import NMS_SURVIVORS, NmsSurvivors
from cascadebench.diagnostics.observations import GroundTruthBoxes, ImageObservation
from cascadebench.diagnostics.recall import RECALL, Recall
from cascadebench.metrics.coco.parquet import write_parquet
from cascadebench.results.layout import RunFolder


class PredictionDiagnostics:
    """Accumulate what a prediction pass sees, image by image.

    Parameters
    ----------
    iou_thresholds : sequence of float
        Of every stage (:func:`cascadebench.diagnostics.observations.iou_thresholds`).
    ground_truth : mapping of int to GroundTruthBoxes
        By image id (:func:`cascadebench.diagnostics.observations.ground_truth_by_image`).
    """

    def __init__(self, iou_thresholds: Sequence[float], ground_truth: Mapping[int, GroundTruthBoxes]) -> None:
        self._ground_truth = ground_truth
        self._localization = Localization(iou_thresholds)
        self._recall = Recall(len(iou_thresholds))
        self._survivors = NmsSurvivors()

    def add(self, observation: ImageObservation) -> None:
        """Count one image."""
        truth = self._ground_truth[observation.image_id]
        self._localization.add(observation, truth)
        self._recall.add(observation, truth)
        if observation.candidates is not None:
            self._survivors.add(observation.candidates, truth)

    def write(self, folder: Path) -> None:
        """Write ``localization.parquet``, ``recall.parquet`` and, with candidates, ``nms_survivors.parquet``."""
        run = RunFolder(folder)
        write_parquet(run.localization, self._localization.table(), LOCALIZATION)
        write_parquet(run.recall, self._recall.table(), RECALL)
        if self._survivors.images:
            write_parquet(run.nms_survivors, self._survivors.table(), NMS_SURVIVORS)
