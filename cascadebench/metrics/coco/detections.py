"""Detections and proposals: their files, and COCO results as other tools write them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_json
from cascadebench.metrics.coco.json_entries import boxes, check_objects, integers, numbers, run_lengths
from cascadebench.metrics.coco.parquet import WORD, read_parquet, required, types_of_columns, write_parquet

_MEASURES = ("score", "x", "y", "w", "h")
_MEASURE_FIELDS = [required(name, pa.float32()) for name in _MEASURES]
DETECTIONS = pa.schema(
    [
        required("image_id", pa.int64()),
        required("test_stage", WORD),
        required("category_id", pa.int32()),
        *_MEASURE_FIELDS,
    ]
)
"""Columns of ``detections.parquet``: ids of the annotation file, and boxes in pixels of the original image."""
IMPORTED_DETECTIONS = pa.schema(
    [pa.field(one.name, pa.float64(), nullable=False) if one.name in _MEASURES else one for one in DETECTIONS]
)
"""The same columns of detections from outside: rounded to float32, a box may miss an IoU that it reached exactly."""
SEGMENTATION = pa.field("segmentation", pa.string())
"""One more column of ``detections.parquet`` where a detector gives masks: run lengths in COCO's text over the original
image (:mod:`cascadebench.datasets.masks`); missing in test stages without masks."""
PROPOSALS = pa.schema([required("image_id", pa.int64()), *_MEASURE_FIELDS])
"""Columns of ``proposals.parquet``."""


def check_rows(rows: pd.DataFrame, source: str, error: type[Exception] = InputError) -> None:
    """Raise at the first row that has a value that is not finite, or a negative width or height.

    The message is such as ``file: row 3 (counted from 0): score is nan; a finite number is expected``; `source` is what
    it calls the rows.
    """
    first = None
    for name in _MEASURES:
        values = rows[name].to_numpy(dtype=np.float64)
        bad = ~np.isfinite(values)
        if name in ("w", "h"):
            bad |= values < 0
        row = int(bad.argmax()) if len(bad) else 0
        if bad.any() and (first is None or row < first[0]):
            first = row, name, float(values[row])
    if first is not None:
        row, name, value = first
        allowed = "at least 0" if np.isfinite(value) else "a finite number"
        raise error(f"{source}: row {row} (counted from 0): {name} is {value}; {allowed} is expected")


def write_detections(path: Path, columns: Mapping[str, Any]) -> None:
    """Write ``detections.parquet``; the rows keep their order, and the same rows give the same bytes.

    Parameters
    ----------
    columns : mapping of str to array-like [N], or DataFrame
        ``image_id`` and ``category_id`` (ids of the annotation file), ``test_stage`` (labels of
        :class:`cascadebench.detectors.inference_stages.TestStage`), ``score``, and the box ``x``, ``y``, ``w``, ``h``
        (corner and size in pixels of the original image). Floating-point columns are stored as float32.
        ``segmentation``, if it is there: run lengths in COCO's text, None where a detection has no mask.

    Raises
    ------
    ValueError
        If a score or box is not finite or a width or height is negative: a mistake of the caller, not of a user.
    """
    _write(path, columns, DETECTIONS.append(SEGMENTATION) if SEGMENTATION.name in columns else DETECTIONS)


def write_imported_detections(path: Path, columns: Mapping[str, Any]) -> None:
    """Write detections from outside: as :func:`write_detections`, with floating-point columns as float64."""
    _write(path, columns, IMPORTED_DETECTIONS)


def write_proposals(path: Path, columns: Mapping[str, Any]) -> None:
    """Write ``proposals.parquet``: as :func:`write_detections`, without ``test_stage`` and ``category_id``."""
    _write(path, columns, PROPOSALS)


def _write(path: Path, columns: Mapping[str, Any], schema: pa.Schema) -> None:
    rows = pd.DataFrame({name: columns[name] for name in schema.names})
    rows = rows.astype({name: schema.field(name).type.to_pandas_dtype() for name in _MEASURES})
    check_rows(rows, path.name, ValueError)
    write_parquet(path, rows, schema)


def read_detections(path: Path) -> pd.DataFrame:
    """Read ``detections.parquet``.

    Returns
    -------
    DataFrame
        image_id int64, test_stage categorical, category_id int32; score, x, y, w, h float32 (float64 if they were
        imported), finite, w and h >= 0; and segmentation, text or None, if the file has masks.

    Raises
    ------
    InputError
        If the file is missing or no Parquet, a column is missing or has another type, or a row has a bad value.
    """
    kinds = types_of_columns(path)
    imported = any(kinds.get(name) == pa.float64() for name in _MEASURES)
    rows = read_parquet(path, IMPORTED_DETECTIONS if imported else DETECTIONS, [SEGMENTATION])
    check_rows(rows, str(path))
    return rows


def read_coco_results(path: Path, iou_type: str = "bbox") -> pd.DataFrame:
    """Read COCO results JSON: a list of ``{"image_id", "category_id", "bbox": [x, y, w, h], "score"}``.

    Parameters
    ----------
    iou_type : str
        ``segm``: read masks, ``"segmentation": {"size": [height, width], "counts": ...}``, in place of boxes.

    Returns
    -------
    DataFrame
        The columns of :func:`read_detections`, with the test stage ``""``. Numbers stay float64: rounded to float32,
        close scores would tie and the AP could differ from that of the file. With masks the boxes are zeros, and
        segmentation holds the objects of the file.

    Raises
    ------
    InputError
        If the file is missing, no JSON or no list, or an entry lacks a key or has a bad value; names the entry.
    """
    where = f"{path}: "
    entries = check_objects(read_json(path), where)
    masks = run_lengths(entries, SEGMENTATION.name, where) if iou_type == "segm" else None
    corners_and_sizes = boxes(entries, where) if masks is None else np.zeros((len(entries), 4))
    rows = pd.DataFrame(corners_and_sizes, columns=["x", "y", "w", "h"])
    rows["image_id"] = integers(entries, "image_id", where)
    rows["category_id"] = integers(entries, "category_id", where)
    rows["score"] = numbers(entries, "score", where)
    rows["test_stage"] = pd.Categorical([""] * len(rows), categories=[""])
    if masks is None:
        return rows[DETECTIONS.names]
    return rows[DETECTIONS.names].assign(**{SEGMENTATION.name: pd.Series(masks, dtype=object)})
