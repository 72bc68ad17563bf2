"""The table of average precision, ``ap.parquet``: a row per test stage, kind of IoU, category, limits and threshold."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from cascadebench.metrics.coco.parquet import WORD, read_parquet, required, write_parquet
from cascadebench.metrics.coco.rules import MAX_DETS

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
