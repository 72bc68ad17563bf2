"""Files that the report reads. One that is missing or unreadable is noted in `missing`, and never stops the report."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from cascadebench.core import files
from cascadebench.core.errors import InputError

LOG_COLUMNS = ["iteration", "lr", "loss"]


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
