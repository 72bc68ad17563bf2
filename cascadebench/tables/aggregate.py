"""The tables of a study, from what its runs have left under ``results/runs/``."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_object, write_csv
from cascadebench.imported.record import ImportedRun, find_imported
from cascadebench.metrics.coco.ap_table import METRICS, full_area, metrics, read_ap
from cascadebench.metrics.coco.ground_truth import ALL
from cascadebench.results.layout import ResultsFolder, RunFolder
from cascadebench.results.run_state import run_state
from cascadebench.study.study import PlannedRun, Study
from cascadebench.uncertainty.gaps import gap_curves

_RUN = ["label", "framework", "backbone", "seed", "run"]
_STATUS = ["run", "label", "variant", "framework", "backbone", "dataset", "seed", "state", "detail"]
_COST = {
    "parameters": (RunFolder.cost, "parameters"),
    "trainable_parameters": (RunFolder.cost, "trainable_parameters"),
    "flops": (RunFolder.cost, "flops"),
    "seconds_per_iteration": (RunFolder.trained, "seconds_per_iteration"),
    "peak_memory_mb": (RunFolder.trained, "peak_memory_mb"),
    "train_device": (RunFolder.trained, "device"),
    "seconds_per_image": (RunFolder.predicted, "seconds_per_image"),
    "predict_device": (RunFolder.predicted, "device"),
}
"""Columns of ``cost.csv``: file of the run and its key."""


def aggregate(study: Study, results: Path) -> None:
    """Write the tables of a study, whatever state its runs are in.

    Writes ``status.csv``, ``ap.csv``, ``ap_per_class.csv``, ``gaps.csv`` and ``cost.csv`` under
    ``results/studies/<study>/``, and ``ap_masks.csv`` if a variant predicts masks. Every run is in ``status.csv`` and
    ``cost.csv``; the others hold the evaluated ones, ``ap.csv`` and ``ap_per_class.csv`` also imported detections, and
    all but ``ap_masks.csv`` speak of boxes.

    Parameters
    ----------
    results : Path
        The folder that holds ``runs/`` and ``studies/``.
    """
    folders = ResultsFolder(results)
    folder = folders.study(study.name)
    status, cost, ap_tables, mask_tables = [], [], {}, {}
    for planned in study.runs:
        run_folder = folders.run(planned.run.id)
        state, detail = run_state(run_folder.path)
        if state == "evaluated":
            try:
                ap_tables[planned.run.id] = read_ap(run_folder.ap)
                if planned.run.variant.masks:
                    mask_tables[planned.run.id] = read_ap(run_folder.ap, "segm")
            except InputError as error:
                state, detail = "failed", str(error)
        values, problems = _cost_of(run_folder)
        status.append(_about(planned) | {"state": state, "detail": "; ".join([detail] * bool(detail) + problems)})
        cost.append(_about(planned) | values)
    write_csv(folder.status, status, _STATUS)
    write_csv(folder.cost, cost, [*_RUN, *_COST])
    evaluated = [planned for planned in study.runs if planned.run.id in ap_tables]
    overall, per_class = _ap_rows(evaluated, ap_tables)
    imported, _ = find_imported(study, results)
    for rows, more in zip((overall, per_class), _imported_rows(imported, results), strict=True):
        rows.extend(more)
    write_csv(folder.ap, overall, [*_RUN, "test_stage", "headline", *METRICS])
    write_csv(folder.ap_per_class, per_class, [*_RUN, "test_stage", "headline", "category", *METRICS])
    if study.masks:
        masked, _ = _ap_rows([planned for planned in evaluated if planned.run.id in mask_tables], mask_tables)
        write_csv(folder.ap_masks, masked, [*_RUN, "test_stage", *METRICS])
    gaps = gap_curves(_curves(ap_tables), evaluated, study.file.baseline)
    write_csv(folder.gaps, gaps.to_dict(orient="records"), [*_RUN, "gap", "iou", "gap_ap"])


def _cost_of(folder: RunFolder) -> tuple[dict[str, Any], list[str]]:
    """Row of ``cost.csv``, without cells whose file or key is missing, and what is wrong with the files."""
    contents, problems = {}, []
    for name in dict.fromkeys(name for name, _ in _COST.values()):
        try:
            path = folder.path / name
            contents[name] = read_object(path) if path.exists() else {}
        except InputError as error:
            contents[name] = {}
            problems.append(str(error))
    return {column: contents[name].get(key) for column, (name, key) in _COST.items()}, problems


def _about(planned: PlannedRun) -> dict[str, Any]:
    """The columns that say which run a row is about."""
    run = planned.run
    return {
        "run": run.id,
        "variant": run.variant.name,
        "dataset": run.dataset.name,
        "seed": run.seed,
        **asdict(planned.detector),
    }


def _curves(ap_tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """AP of all categories by run, test stage and IoU threshold."""
    curves = [full_area(table[table["category"] == ALL]).assign(run=run_id) for run_id, table in ap_tables.items()]
    columns = ["run", "test_stage", "iou", "ap"]
    return pd.concat(curves)[columns] if curves else pd.DataFrame(columns=columns)


def _ap_rows(evaluated: Sequence[PlannedRun], ap_tables: dict[str, pd.DataFrame]) -> tuple[list[dict], list[dict]]:
    """Rows of ``ap.csv`` and of ``ap_per_class.csv``."""
    overall, per_class = [], []
    for planned in evaluated:
        about = _about(planned)
        parts = _rows_of(about, planned.run.variant.headline, ap_tables[about["run"]])
        overall += parts[0]
        per_class += parts[1]
    return overall, per_class


def _rows_of(about: dict[str, Any], headline: str, ap_table: pd.DataFrame) -> tuple[list[dict], list[dict]]:
    """Rows of one run, over all categories and of each."""
    rows = metrics(ap_table).reset_index().to_dict(orient="records")
    rows = [about | {"headline": row["test_stage"] == headline} | row for row in rows]
    return [row for row in rows if row["category"] == ALL], [row for row in rows if row["category"] != ALL]


def _imported_rows(imported: Sequence[ImportedRun], results: Path) -> tuple[list[dict], list[dict]]:
    """Rows of imported detections, which have neither backbone nor seed."""
    overall, per_class = [], []
    for one in imported:
        about = {"label": one.file.title, "framework": one.framework, "run": one.id}
        parts = _rows_of(about, one.file.headline, read_ap(ResultsFolder(results).imported(one.file.name).ap))
        overall += parts[0]
        per_class += parts[1]
    return overall, per_class
