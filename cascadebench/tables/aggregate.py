"""The tables of a study, from what its runs have left under ``results/runs/``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_object, write_csv
from cascadebench.imported.record import find_imported
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
    """
    folders = ResultsFolder(results)
    folder = folders.study(study.name)
    status, cost, rows, masked, ap_tables = [], [], [], [], {}
    for planned in study.runs:
        run, run_folder, about = planned.run, folders.run(planned.run.id), _about(planned)
        state, detail = run_state(run_folder.path)
        if state == "evaluated":
            try:
                ap_tables[run.id] = read_ap(run_folder.ap)
                rows += _ap_rows(about, run.variant.headline, ap_tables[run.id])
                if run.variant.masks:
                    masked += _ap_rows(about, run.variant.headline, read_ap(run_folder.ap, "segm"))
            except InputError as error:
                state, detail = "failed", str(error)
        values, problems = _cost_of(run_folder)
        status.append(about | {"state": state, "detail": "; ".join([detail] * bool(detail) + problems)})
        cost.append(about | values)
    for imported in find_imported(study, results)[0]:
        # They have neither backbone nor seed.
        about = {"label": imported.file.title, "framework": imported.framework, "run": imported.id}
        rows += _ap_rows(about, imported.file.headline, read_ap(folders.imported(imported.file.name).ap))
    write_csv(folder.status, status, _STATUS)
    write_csv(folder.cost, cost, [*_RUN, *_COST])
    overall = [row for row in rows if row["category"] == ALL]
    write_csv(folder.ap, overall, [*_RUN, "test_stage", "headline", *METRICS])
    per_class = [row for row in rows if row["category"] != ALL]
    write_csv(folder.ap_per_class, per_class, [*_RUN, "test_stage", "headline", "category", *METRICS])
    if study.masks:
        masked = [row for row in masked if row["category"] == ALL]
        write_csv(folder.ap_masks, masked, [*_RUN, "test_stage", *METRICS])
    evaluated = [planned for planned in study.runs if planned.run.id in ap_tables]
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


def _ap_rows(about: dict[str, Any], headline: str, ap_table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of one run, over all categories and of each."""
    rows = metrics(ap_table).reset_index().to_dict(orient="records")
    return [about | {"headline": row["test_stage"] == headline} | row for row in rows]
