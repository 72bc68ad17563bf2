"""Evaluating a run of the pipeline."""

from pathlib import Path

import pandas as pd

from cascadebench.metrics.coco.ap_table import write_ap
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.results.layout import DatasetFolder, RunFolder
from cascadebench.study.run import read_run


def evaluate_run(run_folder: Path, dataset_folder: Path) -> None:
    """Evaluate the detections of a run; writes ``ap.parquet`` beside them.

    Parameters
    ----------
    run_folder : Path
        With ``run.yaml`` and ``detections.parquet``. Every test stage of the run's cascade is in the table, with AP 0
        if nothing was detected, and so are further ones that the detections hold. Of a detector with masks the headline
        test stage, which has them, is there a second time, by masks.
    dataset_folder : Path
        Prepared dataset, with ``val.json``.

    Raises
    ------
    InputError
        If a file is missing or malformed, or the detections do not belong to the dataset.
    """
    folder = RunFolder(run_folder)
    run, path = read_run(folder.run), folder.detections
    labels = [test_stage.label for test_stage in run.variant.test_stages]
    truth, detections = DatasetFolder(dataset_folder).val, read_detections(path)
    tables = [evaluate(truth, detections, labels, source=str(path))]
    if run.variant.masks:
        headline = run.variant.headline
        with_masks = detections[detections["test_stage"] == headline]
        tables.append(evaluate(truth, with_masks, [headline], source=f"{path}, {headline}", iou_type="segm"))
    write_ap(folder.ap, pd.concat(tables, ignore_index=True))
