"""The diagnostics of the runs, as far as they exist, and what they give for a detector."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from cascadebench.core.errors import InputError
from cascadebench.diagnostics.error_kinds import ERROR_KINDS
from cascadebench.diagnostics.localization import LOCALIZATION
from cascadebench.diagnostics.nms_survivors import NMS_SURVIVORS
from cascadebench.diagnostics.recall import RECALL
from cascadebench.diagnostics.score_quality import SCORE_QUALITY
from cascadebench.diagnostics.stage_statistics import STAGE_STATISTICS
from cascadebench.metrics.coco.ap_table import AP, full_area
from cascadebench.metrics.coco.ground_truth import ALL
from cascadebench.metrics.coco.parquet import read_parquet
from cascadebench.metrics.coco.rules import IOUS
from cascadebench.results.layout import RunFolder

FILES: dict[str, pa.Schema] = {
    "stage_statistics": STAGE_STATISTICS,
    "localization": LOCALIZATION,
    "recall": RECALL,
    "quality_ap": AP,
    "score_quality": SCORE_QUALITY,
    "error_kinds": ERROR_KINDS,
    "nms_survivors": NMS_SURVIVORS,
}
"""Diagnostics that lie in a run's folder, ``<name>.parquet``."""
PROPOSALS_OF = RunFolder.proposals_of


@dataclass(frozen=True)
class RunDiagnostics:
    """What a run's folder holds.

    Attributes
    ----------
    tables : dict of str to DataFrame
        By name in :data:`FILES`; without those that are missing or unreadable.
    proposals_of : dict of str to DataFrame
        ``ap.parquet`` of every folder under ``proposals_of/``, by the folder's name.
    """

    tables: dict[str, pd.DataFrame]
    proposals_of: dict[str, pd.DataFrame]


def read_diagnostics(folder: RunFolder, missing: list[str]) -> RunDiagnostics:
    """Read the diagnostics of a run; one that is there and cannot be read is noted in `missing`."""
    tables, proposals = {}, {}
    for name, schema in FILES.items():
        _read(getattr(folder, name), schema, tables, name, missing)
    for swap in folder.proposal_swaps():
        _read(swap.ap, AP, proposals, swap.path.name, missing)
    return RunDiagnostics(tables, proposals)


def _read(path: Path, schema: pa.Schema, into: dict[str, pd.DataFrame], name: str, missing: list[str]) -> None:
    if not path.exists():
        return
    try:
        into[name] = read_parquet(path, schema)
    except InputError as error:
        missing.append(f"A diagnostic cannot be read: {error}.")


def pooled(runs: Sequence[RunDiagnostics], name: str) -> pd.DataFrame | None:
    """Rows of one diagnostic of several runs, one after the other; None if no run has it."""
    tables = [run.tables[name] for run in runs if name in run.tables]
    if not tables:
        return None
    table = pd.concat(tables, ignore_index=True)
    words = [field.name for field in FILES[name] if pa.types.is_dictionary(field.type)]
    return table.astype(dict.fromkeys(words, "str"))


def summed(runs: Sequence[RunDiagnostics], name: str, keys: list[str]) -> pd.DataFrame | None:
    """Sums of the counts of one diagnostic over several runs, by its columns `keys`; None if no run has it."""
    table = pooled(runs, name)
    return None if table is None else table.groupby(keys, sort=False).sum(numeric_only=True).reset_index()


def ap_by_iou(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean AP over several runs' tables of AP: index test_stage, a column for every IoU threshold, in [0, 1]."""
    rows = [full_area(table[table["category"] == ALL]).astype({"test_stage": "str"}) for table in tables]
    if not rows:
        return pd.DataFrame(columns=IOUS)
    return (
        pd.concat(rows).groupby(["test_stage", "iou"], sort=False)["ap"].mean().unstack("iou", sort=False)[list(IOUS)]
    )


def names_of_proposals(runs: Sequence[RunDiagnostics]) -> Iterator[tuple[str, list[pd.DataFrame]]]:
    """Every name under ``proposals_of/`` with the tables of the runs that have it."""
    for name in sorted({name for run in runs for name in run.proposals_of}):
        yield name, [run.proposals_of[name] for run in runs if name in run.proposals_of]
