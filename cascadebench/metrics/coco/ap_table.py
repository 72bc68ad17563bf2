"""The table of average precision, ``ap.parquet``, and the numbers that papers print, out of it.

The table has a row per test stage, kind of IoU, category, limits and threshold.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cascadebench.metrics.coco.ground_truth import ALL
from cascadebench.metrics.coco.parquet import WORD, read_parquet, required, write_parquet
from cascadebench.metrics.coco.rules import AP_AT_IOU, MAX_DETS

AP = pa.schema(
    [
        required("test_stage", WORD),
        required("iou_type", WORD),
        required("category", WORD),
        required("area", WORD),
        required("max_dets", pa.int32()),
        required("iou", pa.float64()),
        pa.field("ap", pa.float64()),
        pa.field("recall", pa.float64()),
    ]
)
"""Columns of ``ap.parquet``; NaN in ap and recall: no ground truth in this category and area."""


def write_ap(path: Path, table: pd.DataFrame) -> None:
    """Write a table of :func:`cascadebench.metrics.coco.evaluate.evaluate`; the same table gives the same bytes."""
    write_parquet(path, table, AP)


def read_ap(path: Path, iou_type: str = "bbox") -> pd.DataFrame:
    """Read the rows of one kind of IoU from ``ap.parquet``; raises InputError if it is missing or is none."""
    table = read_parquet(path, AP).astype(dict.fromkeys(("test_stage", "iou_type", "category", "area"), "str"))
    return table[table["iou_type"] == iou_type].reset_index(drop=True)


def full_area(table: pd.DataFrame) -> pd.DataFrame:
    """Rows for ground truth of every area and the highest limit of detections: those that AP by IoU is read from."""
    return table[(table["area"] == "all") & (table["max_dets"] == MAX_DETS[-1])]


_BY_AREA = {"s": "small", "m": "medium", "l": "large"}
METRICS = (
    "AP",
    *AP_AT_IOU,
    *(f"AP{letter}" for letter in _BY_AREA),
    *(f"AR{count}" for count in MAX_DETS),
    *(f"AR{letter}" for letter in _BY_AREA),
)
"""Names of the metrics, among them COCO's twelve; fractions in [0, 1], NaN without ground truth."""


def metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Metrics of every test stage and category.

    Parameters
    ----------
    table : DataFrame
        As :func:`cascadebench.metrics.coco.evaluate.evaluate` returns it.

    Returns
    -------
    DataFrame
        Index test_stage and category in the order of the table; columns :data:`METRICS`, float64.
    """
    keys = ["test_stage", "category"]
    groups = {limits: rows.groupby(keys, sort=False) for limits, rows in table.groupby(["area", "max_dets"])}

    def mean(area: str, max_dets: int, column: str) -> pd.Series:
        return groups[area, max_dets][column].mean()

    result = {"AP": mean(ALL, MAX_DETS[-1], "ap")}
    at_iou = full_area(table).set_index([*keys, "iou"])["ap"]
    result |= {name: at_iou.xs(iou, level="iou") for name, iou in AP_AT_IOU.items()}
    result |= {f"AP{letter}": mean(area, MAX_DETS[-1], "ap") for letter, area in _BY_AREA.items()}
    result |= {f"AR{count}": mean(ALL, count, "recall") for count in MAX_DETS}
    result |= {f"AR{letter}": mean(area, MAX_DETS[-1], "recall") for letter, area in _BY_AREA.items()}
    return pd.DataFrame(result)[list(METRICS)]


def summarize(table: pd.DataFrame, test_stage: str) -> dict[str, Any]:
    """Metrics of one test stage, ready for JSON.

    Returns
    -------
    dict
        :data:`METRICS` as float in [0, 1], or None without ground truth; ``per_class`` holds the same for every
        category by name.

    Raises
    ------
    KeyError
        If the table has no such test stage.
    """
    values = metrics(table).xs(test_stage, level="test_stage").replace(np.nan, None)
    by_category = values.to_dict(orient="index")
    return by_category.pop(ALL) | {"per_class": by_category}
