"""The diagnostics of a run that need no model: from its files of detections and the annotations."""

from pathlib import Path

import pandas as pd

from cascadebench.core.errors import InputError
from cascadebench.diagnostics.error_kinds import ERROR_KINDS, error_kinds
from cascadebench.diagnostics.quality_matrix import QualityStage
from cascadebench.diagnostics.score_quality import SCORE_QUALITY, score_quality
from cascadebench.metrics.coco.ap_table import write_ap
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.metrics.coco.ground_truth import GroundTruth, read_ground_truth
from cascadebench.metrics.coco.parquet import write_parquet
from cascadebench.results.layout import DatasetFolder, RunFolder
from cascadebench.study.run import read_run


def diagnose_run(run_folder: Path, dataset_folder: Path) -> None:
    """Write what a run's detections tell beside its AP.

    From ``detections.parquet``: ``error_kinds.parquet`` and ``score_quality.parquet``. Where they exist, from
    ``quality_detections.parquet``: ``quality_ap.parquet``; and from every ``proposals_of/<name>/detections.parquet`` an
    ``ap.parquet`` beside it.

    Parameters
    ----------
    run_folder : Path
        With ``run.yaml`` and ``detections.parquet``.
    dataset_folder : Path
        Prepared dataset, with ``val.json``.

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
    detections = _detections(folder.detections, truth)
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


def _detections(path: Path, truth: GroundTruth) -> pd.DataFrame:
    """Detections whose images the annotations have."""
    detections = read_detections(path)
    unknown = ~detections["image_id"].isin(truth.image_ids)
    if unknown.any():
        row = int(unknown.to_numpy().argmax())
        number = detections["image_id"].iloc[row]
        raise InputError(f"{path}: row {row} (counted from 0): image_id {number} is not in {truth.source}")
    return detections


def _check_cells(detections: pd.DataFrame, path: Path) -> None:
    for label in detections["test_stage"].unique():
        try:
            QualityStage.parse(label)
        except ValueError as error:
            raise InputError(f"{path}: test_stage: {error}") from error
