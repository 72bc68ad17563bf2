"""The diagnostics of the runs, as far as they exist, and what they give for a detector."""

from collections.abc import Sequence

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

Diagnostics = dict[str, pd.DataFrame]
"""What exists of a run, by name in :data:`FILES`; AP on other proposals as ``proposals_of/<name>``."""


def read_diagnostics(folder: RunFolder, missing: list[str]) -> Diagnostics:
    """Read the diagnostics of a run; one that is there and cannot be read is noted in `missing`."""
    places = {name: (getattr(folder, name), schema) for name, schema in FILES.items()}
    places |= {f"{PROPOSALS_OF}/{swap.path.name}": (swap.ap, AP) for swap in folder.proposal_swaps()}
    tables = {}
    for name, (path, schema) in places.items():
        if path.exists():
            try:
                tables[name] = read_parquet(path, schema)
            except InputError as error:
                missing.append(f"A diagnostic cannot be read: {error}.")
    return tables


def pooled(runs: Sequence[Diagnostics], name: str) -> pd.DataFrame | None:
    """Rows of one diagnostic of several runs, one after the other; None if no run has it."""
    tables = [run[name] for run in runs if name in run]
    if not tables:
        return None
    table = pd.concat(tables, ignore_index=True)
    words = [field.name for field in FILES[name] if pa.types.is_dictionary(field.type)]
    return table.astype(dict.fromkeys(words, "str"))


def summed(runs: Sequence[Diagnostics], name: str, keys: list[str]) -> pd.DataFrame | None:
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
