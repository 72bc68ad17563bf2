"""The table of average precision, ``ap.parquet``: a row per test stage, kind of IoU, category, limits and threshold."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from cascadebench.evaluation.parquet import WORD, read_parquet, required, write_parquet

IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU thresholds 0.50, 0.55, ..., 0.95 as the table holds them; select by equality."""
IOU_TYPES = ("bbox", "segm")
"""What overlaps: boxes or masks."""
AREAS = ("all", "small", "medium", "large")
"""Ranges of ground-truth area: any, up to 32^2, 32^2 to 96^2, from 96^2 square pixels, ends included."""
MAX_DETS = (1, 10, 100)
"""Highest-scored detections that count, per image and category."""
LIMITS = tuple((area, count) for area in AREAS for count in MAX_DETS if area == "all" or count == MAX_DETS[-1])
"""Pairs of area and max_dets in the table: those that COCO's twelve numbers need."""

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
    """Write a table of :func:`cascadebench.evaluation.coco.evaluate`; the same table gives the same bytes."""
    write_parquet(path, table, AP)


def read_ap(path: Path, iou_type: str = "bbox") -> pd.DataFrame:
    """Read the rows of one kind of IoU from ``ap.parquet``; raises InputError if it is missing or is none."""
    table = read_parquet(path, AP).astype(dict.fromkeys(("test_stage", "iou_type", "category", "area"), "str"))
    return table[table["iou_type"] == iou_type].reset_index(drop=True)


def full_area(table: pd.DataFrame) -> pd.DataFrame:
    """Rows for ground truth of every area and the highest limit of detections: those that AP by IoU is read from."""
    return table[(table["area"] == "all") & (table["max_dets"] == MAX_DETS[-1])]
