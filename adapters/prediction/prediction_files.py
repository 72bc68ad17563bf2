"""What is written of predictions: the columns of their files, and their diagnostics."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapters.prediction.predict_image import Detections, Prediction
from cascadebench.diagnostics.observations import ground_truth_by_image, iou_thresholds
from cascadebench.diagnostics.run_diagnostics import PredictionDiagnostics
from cascadebench.metrics.coco.detections import write_detections
from cascadebench.results.layout import RunFolder
from cascadebench.study.run import Run

CANDIDATE_IMAGES = 20
"""The first images, of which the RPN's candidates are counted."""


def corner_and_size(boxes: np.ndarray) -> dict[str, np.ndarray]:
    """From x1, y1, x2, y2 rows to the columns x, y, w, h."""
    return dict(zip("xywh", np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).T, strict=True))


def detection_columns(
    found: Sequence[tuple[int, dict[str, Detections]]], category_ids: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of ``detections.parquet``: test stage by test stage, image by image, score descending.

    Parameters
    ----------
    found : sequence of (int, dict of str to Detections)
        Image id, and the image's detections by test stage, of which all images have the same.
    category_ids : ndarray, int [categories]
        Category id for every label.
    """
    rows = [(image_id, label, stages[label]) for label in found[0][1] for image_id, stages in found]
    counts = [len(one.scores) for _, _, one in rows]
    columns = {
        "image_id": np.repeat(np.array([image_id for image_id, _, _ in rows], dtype=np.int64), counts),
        "test_stage": np.repeat(np.array([label for _, label, _ in rows], dtype=object), counts),
        "category_id": category_ids[np.concatenate([one.labels for _, _, one in rows])],
        "score": np.concatenate([one.scores for _, _, one in rows]),
    } | corner_and_size(np.concatenate([one.boxes for _, _, one in rows]))
    if any(one.masks is not None for _, _, one in rows):
        masks = [one.masks or [None] * len(one.scores) for _, _, one in rows]
        columns["segmentation"] = np.array([mask for image in masks for mask in image], dtype=object)
    return columns


def proposal_columns(predictions: list[Prediction]) -> dict[str, np.ndarray]:
    """Columns of ``proposals.parquet``: image by image, score descending."""
    counts = [len(p.proposals.scores) for p in predictions]
    return {
        "image_id": np.repeat(np.array([p.image_id for p in predictions], dtype=np.int64), counts),
        "score": np.concatenate([p.proposals.scores for p in predictions]),
    } | corner_and_size(np.concatenate([p.proposals.boxes for p in predictions]))


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
