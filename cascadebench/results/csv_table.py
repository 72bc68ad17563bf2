"""How every table of a study is written."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cascadebench.core.files import write_text


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Write rows as CSV with a header, beside and renamed; None and NaN are empty cells."""
    # Objects, because a column of whole numbers with a gap would otherwise be printed as fractions.
    table = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
