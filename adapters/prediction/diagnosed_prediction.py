"""The diagnostics of a prediction, filled image by image; the same in every framework."""

from pathlib import Path

import numpy as np

from adapters.contract import Detections, Prediction
from adapters.prediction.prediction_columns import detection_columns
from cascadebench.diagnostics.observations import ground_truth_by_image, iou_thresholds
from cascadebench.diagnostics.run_diagnostics import PredictionDiagnostics
from cascadebench.metrics.coco.detections import write_detections
from cascadebench.results.layout import RunFolder
from cascadebench.study.run import Run

CANDIDATE_IMAGES = 20
"""The first images, of which the RPN's candidates are counted."""


class DiagnosedPrediction:
    """What the diagnostics take from every prediction of a run.

    Parameters
    ----------
    annotations : Path
        ``val.json`` of the prepared dataset.
    """

    def __init__(self, run: Run, annotations: Path) -> None:
        truth = ground_truth_by_image(annotations, run.dataset.categories)
        self._diagnostics = PredictionDiagnostics(iou_thresholds(run), truth)
        self._quality: list[tuple[int, dict[str, Detections]]] = []

    def add(self, prediction: Prediction) -> None:
        """Observe one image."""
        self._diagnostics.add(prediction.observe(len(self._quality) < CANDIDATE_IMAGES))
        self._quality.append((prediction.image_id, prediction.quality()))

    def write(self, folder: Path, category_ids: np.ndarray) -> None:
        """Write the files of :class:`~cascadebench.diagnostics.run_diagnostics.PredictionDiagnostics`.

        With several regressors in a row also ``quality_detections.parquet``.
        """
        self._diagnostics.write(folder)
        if self._quality[0][1]:
            write_detections(RunFolder(folder).quality_detections, detection_columns(self._quality, category_ids))
