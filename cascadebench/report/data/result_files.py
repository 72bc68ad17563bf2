"""Files that the report reads. One that is missing or unreadable is noted in `missing`, and never stops the report."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cascadebench.controls.audit import Audit
from cascadebench.controls.audit_files import read_audit
from cascadebench.core.errors import InputError
from cascadebench.core.files import read_json
from cascadebench.examples.records import ExamplesFile, read_examples

LOG_COLUMNS = ["iteration", "lr", "loss"]


@dataclass(frozen=True)
class Examples:
    """``examples.json`` and the folder that its thumbnails lie in."""

    file: ExamplesFile
    folder: Path


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
        value = read_json(path)
    except InputError:
        return {}, "unreadable"
    return (value, None) if isinstance(value, dict) else ({}, "unreadable")


def read_audit_file(path: Path, missing: list[str]) -> Audit | None:
    """Read the audit of the controls; None if there is none."""
    if not path.is_file():
        missing.append(f"{path.name} is missing.")
        return None
    try:
        audit = read_audit(path)
    except InputError:
        audit = None
    if audit is None:
        missing.append(f"{path.name} is unreadable.")
    return audit


def read_examples_file(folder: Path, missing: list[str]) -> Examples | None:
    """Read the examples of detections; None if there are none."""
    path = folder / "examples.json"
    if not path.is_file():
        missing.append(f"{path.name} is missing.")
        return None
    try:
        return Examples(read_examples(path), folder)
    except InputError:
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
