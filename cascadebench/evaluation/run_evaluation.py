"""Evaluating a run of the pipeline."""

from pathlib import Path

from cascadebench.evaluation.ap_table import write_ap
from cascadebench.evaluation.coco import evaluate
from cascadebench.evaluation.detections import read_detections
from cascadebench.run import read_run


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
    labels = [test_stage.label for test_stage in run.variant.test_stages]
    table = evaluate(dataset_folder / "val.json", read_detections(path), labels, source=str(path))
    write_ap(run_folder / "ap.parquet", table)
