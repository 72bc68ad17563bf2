"""The audit from ``controls.json`` of every run to ``audit.json``, ``audit.csv`` and tables on the terminal."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cascadebench.controls.audit import audit
from cascadebench.controls.findings import Audit, Finding, FindingKind, grouped
from cascadebench.controls.witness import read_witness
from cascadebench.core.configuration import Configuration, validated
from cascadebench.core.files import canonical_json, read_json, write_csv, write_json
from cascadebench.results.layout import ResultsFolder
from cascadebench.study.study import Study

TITLES: dict[FindingKind, str] = {
    "violation": "Violations",
    "accepted": "Accepted violations, with the reason that the study's file gives",
    "framework difference": "Framework differences, with the reason that the control's definition states",
    "own rule": "A framework's own rules, where the protocol keeps them",
}


class Reading(Configuration):
    """One effective value, as an adapter read it back."""

    name: str
    value: Any
    read_from: str


class ControlsFile(Configuration):
    """``controls.json`` of a run."""

    run: str
    versions: dict[str, str]
    controls: tuple[Reading, ...]


def read_controls(path: Path) -> list[dict[str, Any]]:
    """Read the entries of a ``controls.json``; raises InputError if it is none."""
    return [entry.model_dump() for entry in validated(ControlsFile, read_json(path), path).controls]


def study_controls(study: Study, results: Path) -> dict[str, list[dict[str, Any]]]:
    """Entries of every run of a study that has been inspected, by run id."""
    paths = {run_id: ResultsFolder(results).run(run_id).controls for run_id in study.run_ids}
    return {run_id: read_controls(path) for run_id, path in paths.items() if path.exists()}


def study_witnesses(study: Study, results: Path) -> dict[str, list[dict[str, Any]]]:
    """Witness of every run of a study that has been inspected, by run id."""
    paths = {run_id: ResultsFolder(results).run(run_id).witness for run_id in study.run_ids}
    return {run_id: read_witness(path) for run_id, path in paths.items() if path.exists()}


def audit_study(study: Study, results: Path) -> Audit:
    """Audit a study from its runs' controls and witnesses; write ``audit.json`` and ``audit.csv``, whatever was found.

    Parameters
    ----------
    results : Path
        The folder that holds ``runs/`` and ``studies/``.
    """
    outcome = audit(study, study_controls(study, results), study_witnesses(study, results))
    folder = ResultsFolder(results).study(study.name)
    rows = [
        asdict(finding) | {key: canonical_json(getattr(finding, key)) for key in ("value", "other")}
        for finding in outcome.findings
    ]
    write_csv(folder.audit_table, rows, [field.name for field in fields(Finding)])
    summary = {"passed": outcome.passed, "verdict": outcome.verdict}
    write_json(folder.audit, summary | asdict(outcome))
    return outcome


def read_audit(path: Path) -> Audit | None:
    """Read an ``audit.json``; None if it holds something else. A missing or malformed file raises InputError."""
    value = read_json(path)
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if key not in ("passed", "verdict")}
    try:
        return TypeAdapter(Audit).validate_python(value)
    except ValidationError:
        return None


def print_audit(outcome: Audit, console: Console) -> None:
    """Print a table for every kind of finding that occurs, the worst first, then the verdict."""
    for kind, title in TITLES.items():
        groups = grouped(outcome.of_kind(kind))
        if groups:
            console.print(_table(title, groups))
            console.print()
    console.print(Text(f"{outcome.study}: {outcome.verdict}"))


def _table(title: str, groups: Sequence[Sequence[Finding]]) -> Table:
    """For every group of findings: its runs and their value, what they were compared with, and why."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("control", "run", "value", "read from"):
        table.add_column(heading, overflow="fold")
    for group in groups:
        first = group[0]
        # With all digits; nothing where nothing was read.
        value = json.dumps(first.value, ensure_ascii=False) if first.read_from else ""
        table.add_row(*_texts(first.control, _runs(group, "run"), value, first.read_from))
        if first.other_run:
            other = json.dumps(first.other, ensure_ascii=False)
            table.add_row(*_texts("  compared with", _runs(group, "other_run"), other, first.other_read_from))
        table.add_row("  reason", Text(first.reason, style="italic"), end_section=True)
    return table


def _texts(*cells: str) -> list[Text]:
    """Cells in which nothing is taken for markup: code has square brackets."""
    return [Text(cell) for cell in cells]


def _runs(group: Sequence[Finding], key: str) -> str:
    """Ids of the runs of a group, one per line."""
    return "\n".join(dict.fromkeys(getattr(finding, key) for finding in group))
