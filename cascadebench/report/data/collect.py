"""Everything that the report reads. A file that is missing or unreadable is noted and never stops the report."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from cascadebench.controls.audit_files import read_audit
from cascadebench.core import files
from cascadebench.core.errors import InputError
from cascadebench.evidence.hypotheses import study_claims
from cascadebench.examples.records import read_examples
from cascadebench.imported.record import find_imported
from cascadebench.metrics.coco.rules import AP_AT_IOU
from cascadebench.report.data.diagnostic_files import read_diagnostics
from cascadebench.report.data.study_results import RunRecord, StudyResults
from cascadebench.results.layout import ResultsFolder
from cascadebench.results.registered import read_registrations
from cascadebench.study.study import Study

_VERDICT_WORDS = (
    "question", "claim", "words", "formula", "source", "place", "link", "framework", "backbone", "under", "verdict",
    "reading", "unadjusted_reading", "unit", "direction", "threshold_reason", "sampling", "seeds_needed",
    "images_needed", "reasons", "notes", "registered", "registered_why",
)  # fmt: skip
_VERDICT_NUMBERS = (
    "value", "low", "high", "adjusted_low", "adjusted_high", "adjusted_p_value", "holm_level", "threshold",
    "threshold_high", "published", "seeds", "samples", "least_effect", "margin",
)  # fmt: skip

_SCORES = ("AP", *AP_AT_IOU, "APs", "APm", "APl", "AR100")

# The tables of a study: their columns of text and of numbers. Other columns are left alone.
TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "status": (("run", "state", "detail"), ()),
    "ap": (("run", "test_stage", "headline"), _SCORES),
    "ap_per_class": (("run", "test_stage", "category"), ("AP", "AP50", "AP75")),
    "ap_masks": (("run", "test_stage"), _SCORES),
    "gaps": (("run", "gap"), ("iou", "gap_ap")),
    "intervals": (
        ("label", "framework", "backbone", "test_stage", "gap", "quantity"),
        ("value", "low", "high", "seeds", "resamples", "bootstrap_seed", "images", "classes"),
    ),
    "verdicts": (_VERDICT_WORDS, _VERDICT_NUMBERS),
    "cost": (
        ("run", "train_device"),
        ("parameters", "trainable_parameters", "flops", "seconds_per_iteration", "seconds_per_image", "peak_memory_mb"),
    ),
}
LOG_COLUMNS = ["iteration", "lr", "loss"]
RUN_FILES = ("controls", "cost", "trained", "predicted")


def collect(study: Study, results: Path) -> StudyResults:
    """Read everything that exists of a study under `results`, which holds ``studies/``, ``runs/`` and ``datasets/``."""
    missing: list[str] = []
    folders = ResultsFolder(results)
    folder = folders.study(study.name)
    # A table of masks says something only where a variant predicts them, verdicts only where something is asked.
    idle = {"ap_masks": not study.masks, "verdicts": not study_claims(study)}
    names = [name for name in TABLES if not idle.get(name)]
    tables = {name: read_table(folder.table(name), *TABLES[name], missing) for name in names}
    states = {row["run"]: row for row in tables["status"].to_dict("records")}
    records, gone = [], {}
    for planned in study.runs:
        identifier = planned.run.id
        run_folder = folders.run(identifier)
        files = {}
        for path in (*(getattr(run_folder, name) for name in RUN_FILES), run_folder.failed):
            files[path.stem], problem = read_object(path)
            if problem and not (path == run_folder.failed and problem == "missing"):
                gone.setdefault((path.name, problem), []).append(identifier)
        log = read_log(run_folder.train_log)
        if log.empty:
            gone.setdefault((run_folder.train_log.name, "missing or empty"), []).append(identifier)
        status = states.get(identifier, {"state": "unknown", "detail": "not in status.csv"})
        known = (status["state"], status["detail"], files, log, read_diagnostics(run_folder, missing))
        records.append(RunRecord(planned.run, planned.label, *known))
    for (name, problem), runs in gone.items():
        which = "" if len(runs) == len(study.runs) else f": {', '.join(runs)}"
        missing.append(f"{name} is {problem} for {len(runs)} of {len(study.runs)} runs{which}.")
    lock, problem = read_object(folders.dataset(study.dataset.name).lock)
    if problem:
        missing.append(f"datasets/{study.dataset.name}/lock.json is {problem}.")
    audit = read_noted(folder.audit, read_audit, missing) if study.runs else None
    examples = read_noted(folder.examples, read_examples, missing) if study.runs else None
    registered = folder.registered
    registrations = (registered.exists() and read_noted(registered, read_registrations, missing)) or ()
    imported, problems = find_imported(study, results)
    missing += [f"Imported detections {name} are not shown: {problem}." for name, problem in problems.items()]
    known = (lock, audit, examples, missing, tuple(imported), tuple(registrations))
    return StudyResults(study, folder, tables, tuple(records), *known)


def read_table(path: Path, text: Sequence[str], numbers: Sequence[str], missing: list[str]) -> pd.DataFrame:
    """Read columns of one CSV; all text first, so that a label such as ``NA`` stays text."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        missing.append(f"{path.name} is missing.")
        table = pd.DataFrame()
    except (OSError, ValueError) as error:  # pandas' parser errors and bad encodings are ValueErrors
        missing.append(f"{path.name} cannot be read: {error}.")
        table = pd.DataFrame()
    absent = [column for column in (*text, *numbers) if column not in table]
    if absent and len(table):
        missing.append(f"{path.name} has no column {', '.join(absent)}.")
    table = table.reindex(columns=[*text, *numbers])
    for column in text:
        table[column] = table[column].fillna("").astype(str)
    for column in numbers:
        values = pd.to_numeric(table[column], errors="coerce").astype(float)
        table[column] = values.where(values.map(math.isfinite))
    return table


def read_object(path: Path) -> tuple[dict[str, Any], str | None]:
    """Read a JSON object; without one, an empty mapping and why."""
    if not path.is_file():
        return {}, "missing"
    try:
        return files.read_object(path), None
    except InputError:
        return {}, "unreadable"


def read_noted(path: Path, read: Callable[[Path], Any], missing: list[str]) -> Any:
    """What `read` makes of a file; None if there is none, or nothing that it can read."""
    if not path.is_file():
        missing.append(f"{path.name} is missing.")
        return None
    with suppress(InputError):
        if (content := read(path)) is not None:
            return content
    missing.append(f"{path.name} is unreadable.")
    return None


def read_log(path: Path) -> pd.DataFrame:
    """Read the lines of a training log that are whole; a training that runs may be in the middle of one."""
    lines = []
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as stream:
            for text in stream:
                try:
                    line = json.loads(text)
                except json.JSONDecodeError:
                    continue
                values = [line.get(key) for key in LOG_COLUMNS] if isinstance(line, dict) else [None]
                if all(isinstance(value, int | float) and math.isfinite(value) for value in values):
                    lines.append(values)
    return pd.DataFrame(lines, columns=LOG_COLUMNS).astype({"iteration": int})
