"""How tables are written and manifests are read."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_json, write_text


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Write rows as CSV with a header, beside and renamed; None and NaN are empty cells."""
    # Objects, because a column of whole numbers with a gap would otherwise be printed as fractions.
    table = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises InputError if the file is missing, malformed or holds anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: an object is expected, found {type(value).__name__}")
    return value
