"""The audit's files: ``controls.json`` of every run in, ``audit.json`` and ``audit.csv`` of the study out."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cascadebench.controls.audit import Audit, Finding, audit
from cascadebench.core.configuration import Configuration, validated
from cascadebench.core.files import canonical_json, read_json, write_csv, write_json
from cascadebench.results.layout import ResultsFolder
from cascadebench.study.study import Study


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


def audit_study(study: Study, results: Path) -> Audit:
    """Audit a study from its runs' ``controls.json``; write ``audit.json`` and ``audit.csv``, whatever was found.

    Parameters
    ----------
    results : Path
        The folder that holds ``runs/`` and ``studies/``.
    """
    outcome = audit(study, study_controls(study, results))
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
