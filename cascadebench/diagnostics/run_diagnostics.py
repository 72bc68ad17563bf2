"""The diagnostics of a run: those that its one prediction pass feeds, and those from its files of detections."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cascadebench.core.errors import InputError
from cascadebench.diagnostics.error_kinds import ERROR_KINDS, error_kinds
from cascadebench.diagnostics.localization import LOCALIZATION, Localization
from cascadebench.diagnostics.nms_survivors import NMS_SURVIVORS, NmsSurvivors
from cascadebench.diagnostics.observations import GroundTruthBoxes, ImageObservation, QualityStage
from cascadebench.diagnostics.recall import RECALL, Recall
from cascadebench.diagnostics.score_quality import SCORE_QUALITY, score_quality
from cascadebench.metrics.coco.ap_table import write_ap
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import check_known, ground_truth_table
from cascadebench.metrics.coco.parquet import write_parquet
from cascadebench.results.layout import DatasetFolder, RunFolder
from cascadebench.study.run import read_run


class PredictionDiagnostics:
    """Accumulate what a prediction pass sees, image by image.

    The parameters are what :mod:`cascadebench.diagnostics.observations` gives: ``iou_thresholds``, of every stage, and
    ``ground_truth_by_image``.
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


def diagnose_run(run_folder: Path, dataset_folder: Path) -> None:
    """Write what a run's detections tell beside its AP.

    From ``detections.parquet``: ``error_kinds.parquet`` and ``score_quality.parquet``. Where they exist, from
    ``quality_detections.parquet``: ``quality_ap.parquet``; and from every ``proposals_of/<name>/detections.parquet`` an
    ``ap.parquet`` beside it.

    `run_folder` has ``run.yaml`` and ``detections.parquet``; `dataset_folder` is a prepared dataset, with ``val.json``.

    Raises
    ------
    InputError
        If a file is missing or malformed, or the detections do not belong to the dataset.
    """
    folder = RunFolder(run_folder)
    variant = read_run(folder.run).variant
    labels = [test_stage.label for test_stage in variant.test_stages]
    annotations = DatasetFolder(dataset_folder).val
    truth = read_ground_truth(annotations)
    detections = read_detections(folder.detections)
    check_known(detections, ground_truth_table(truth), str(folder.detections))
    write_parquet(folder.error_kinds, error_kinds(truth, detections, labels), ERROR_KINDS)
    write_parquet(folder.score_quality, score_quality(truth, detections, labels), SCORE_QUALITY)
    quality = folder.quality_detections
    if quality.is_file():
        on_stages = read_detections(quality)
        _check_cells(on_stages, quality)
        cells = () if len(on_stages) else (QualityStage(1, 1).label,)
        write_ap(folder.quality_ap, evaluate(annotations, on_stages, cells, source=str(quality)))
    for swap in (swap for swap in folder.proposal_swaps() if swap.detections.exists()):
        swapped = read_detections(swap.detections)
        # Such a file may hold the headline alone; if it holds nothing, the headline found nothing.
        expected = () if len(swapped) else (variant.headline,)
        write_ap(swap.ap, evaluate(annotations, swapped, expected, source=str(swap.detections)))


def _check_cells(detections: pd.DataFrame, path: Path) -> None:
    for label in detections["test_stage"].unique():
        try:
            QualityStage.parse(label)
        except ValueError as error:
            raise InputError(f"{path}: test_stage: {error}") from error
