"""Evaluating a run of the pipeline, or any two files."""

from pathlib import Path
from typing import Any

from cascadebench.errors import InputError
from cascadebench.evaluation.ap_table import write_ap
from cascadebench.evaluation.coco import evaluate
from cascadebench.evaluation.detections import read_coco_results, read_detections
from cascadebench.evaluation.summary import summarize
from cascadebench.run import read_run
from cascadebench.test_stages import cascade_test_stages

_READERS = {".json": read_coco_results, ".parquet": read_detections}


def evaluate_run(run_folder: Path, dataset_folder: Path) -> None:
    """Evaluate the detections of a run; writes ``ap.parquet`` beside them.

    Parameters
    ----------
    run_folder : Path
        With ``run.yaml`` and ``detections.parquet``. Every test stage of the run's cascade is in the table, with AP 0
        if nothing was detected, and so are further ones that the detections hold.
    dataset_folder : Path
        Prepared dataset, with ``val.json``.

    Raises
    ------
    InputError
        If a file is missing or malformed, or the detections do not belong to the dataset.
    """
    run = read_run(run_folder / "run.yaml")
    path = run_folder / "detections.parquet"
    labels = [test_stage.label for test_stage in cascade_test_stages(run.variant.stages)]
    table = evaluate(dataset_folder / "val.json", read_detections(path), labels, source=str(path))
    write_ap(run_folder / "ap.parquet", table)


def evaluate_files(annotations: Path, detections: Path) -> dict[str, dict[str, Any]]:
    """Evaluate a file of detections from anywhere.

    Parameters
    ----------
    annotations : Path
        COCO annotations, JSON.
    detections : Path
        COCO results, ``.json``, or CascadeBench's ``.parquet``.

    Returns
    -------
    dict of str to dict
        Summary (:func:`cascadebench.evaluation.summary.summarize`) by test stage; a ``.json`` has one, named ``""``.

    Raises
    ------
    InputError
        If a file is missing or malformed, or the detections do not belong to the annotations.
    """
    if detections.suffix not in _READERS:
        raise InputError(f"{detections}: detections are COCO results, .json, or .parquet")
    rows = _READERS[detections.suffix](detections)
    # A file without a single detection is one test stage that found nothing.
    table = evaluate(annotations, rows, () if len(rows) else ("",), source=str(detections))
    return {label: summarize(table, label) for label in table["test_stage"].unique()}
