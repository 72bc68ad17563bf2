"""The RoIs that enter each stage in training: their IoU, and the regression targets of those that count.

The questions are those of Cai and Vasconcelos, Cascade R-CNN, TPAMI 2019: the distribution of IoU at the entrance of
each stage (Fig. 4), and mean, deviation and outliers of the targets (Fig. 5). A training appends one line per recorded
step to ``stage_statistics.jsonl``; a resumed one drops the lines that it trains again. At its end the lines become
``stage_statistics.parquet``.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_text, whole_lines, write_text
from cascadebench.diagnostics.boxes import IOU_BINS, iou_bin
from cascadebench.diagnostics.observations import StageTraining
from cascadebench.metrics.coco.parquet import required, write_parquet
from cascadebench.results.layout import RunFolder

TARGETS = ("dx", "dy", "dw", "dh")
TARGET_BINS = 40
TARGET_RANGES = {"dx": (-0.5, 0.5), "dy": (-0.5, 0.5), "dw": (-0.7, 0.7), "dh": (-0.7, 0.7)}
"""What the bins of each target cover: at an IoU of 0.5 no target is outside. Values beyond count in the end bins."""

_COUNTS = pa.list_(pa.int64(), TARGET_BINS)
STAGE_STATISTICS = pa.schema(
    [
        required("iteration", pa.int64()),
        required("stage", pa.int32()),
        required("images", pa.int32()),
        required("iou_threshold", pa.float64()),
        required("rois", pa.int64()),
        required("inliers", pa.int64()),
        required("outliers", pa.int64()),
        required("iou_histogram", pa.list_(pa.int64(), IOU_BINS)),
        *(required(f"{target}_sum", pa.float64()) for target in TARGETS),
        *(required(f"{target}_square_sum", pa.float64()) for target in TARGETS),
        *(required(f"{target}_histogram", _COUNTS) for target in TARGETS),
    ]
)
"""Columns of ``stage_statistics.parquet``: one row per recorded iteration and stage."""
LAST = 0.25
"""Share of the recorded iterations, from the end, that a summary is of."""


def target_edges(target: str) -> np.ndarray:
    """Edges of a target's bins: float64 [TARGET_BINS + 1]."""
    return np.linspace(*TARGET_RANGES[target], TARGET_BINS + 1)


def _stage_row(stage: int, seen: StageTraining, iou_threshold: float, first_threshold: float) -> dict[str, Any]:
    """Count what entered one stage, from 1, in one step: columns of the table, ready for JSON.

    A RoI from the first stage's threshold to this stage's is an outlier: the first trained on it, this one does not.
    """
    ious, targets = np.asarray(seen.target_ious), np.asarray(seen.targets, dtype=np.float64).reshape(-1, 4)
    if len(ious) != len(targets):
        raise ValueError(f"stage {stage}: {len(targets)} targets with {len(ious)} IoUs")
    inside = ious >= iou_threshold
    inliers = targets[inside]
    row = {
        "stage": stage,
        "iou_threshold": float(iou_threshold),
        "rois": len(seen.ious),
        "inliers": int(inside.sum()),
        "outliers": int(((ious >= first_threshold) & ~inside).sum()),
        "iou_histogram": np.bincount(iou_bin(seen.ious), minlength=IOU_BINS).tolist(),
    }
    for position, target in enumerate(TARGETS):
        values, (low, high) = inliers[:, position], TARGET_RANGES[target]
        row[f"{target}_sum"] = float(values.sum())
        row[f"{target}_square_sum"] = float((values**2).sum())
        counts, _ = np.histogram(np.clip(values, low, high), bins=target_edges(target))
        row[f"{target}_histogram"] = counts.tolist()
    return row


class StageStatisticsLog:
    """The append-only log of a training.

    Parameters
    ----------
    folder : Path
        The run's folder.
    iou_thresholds : sequence of float
        Of every stage (:func:`cascadebench.diagnostics.observations.iou_thresholds`).
    start : int
        First iteration that this process trains; above 0 when it resumes a checkpoint. Lines from there on are dropped,
        as is one that was cut short.

    Attributes
    ----------
    kept : int
        Lines before `start`.
    """

    def __init__(self, folder: Path, iou_thresholds: Sequence[float], start: int) -> None:
        self._thresholds = tuple(iou_thresholds)
        path = RunFolder(folder).stage_log
        kept = [line for line in whole_lines(path) if json.loads(line)["iteration"] < start]
        self.kept = len(kept)
        write_text(path, "".join(kept))
        self._stream = path.open("a", encoding="utf-8")

    def add(self, iteration: int, images: int, stages: Sequence[StageTraining]) -> None:
        """Append the line of one step; `images` is the number of images that the RoIs come from."""
        if len(stages) > len(self._thresholds):
            raise ValueError(f"{len(stages)} stages, and thresholds for {len(self._thresholds)}")
        rows = [
            _stage_row(number, seen, self._thresholds[number - 1], self._thresholds[0])
            for number, seen in enumerate(stages, start=1)
        ]
        self._stream.write(json.dumps({"iteration": iteration, "images": images, "stages": rows}) + "\n")

    def flush(self) -> None:
        """Bring what was written to the disk; to be called before a checkpoint is saved."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the log."""
        self._stream.close()


def write_stage_statistics(folder: Path) -> None:
    """Turn ``stage_statistics.jsonl`` of a run's folder into ``stage_statistics.parquet``.

    Raises
    ------
    InputError
        If the log is missing or a line is none.
    """
    path = RunFolder(folder).stage_log
    rows = []
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        try:
            line = json.loads(text)
            about = {"iteration": line["iteration"], "images": line["images"]}
            rows += [about | stage for stage in line["stages"]]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{path}: line {number} is no line of stage statistics: {error}") from error
    table = pd.DataFrame(rows, columns=STAGE_STATISTICS.names)
    write_parquet(RunFolder(folder).stage_statistics, table, STAGE_STATISTICS)


def summarize_stages(table: pd.DataFrame) -> pd.DataFrame:
    """Pool the last quarter of a training, or of several; early RoIs come from random weights.

    Parameters
    ----------
    table : DataFrame
        The columns of :data:`STAGE_STATISTICS`; those of several seeds may stand in one.

    Returns
    -------
    DataFrame
        One row per stage: stage, iou_threshold, iterations (that count), images, rois, inliers, outliers, iou_histogram
        and ``<target>_histogram`` (sums), positives_50, positives_60, positives_70 (share of RoIs at or above that
        IoU), outlier_share (of inliers and outliers), ``<target>_mean`` and ``<target>_std`` (of the inliers; NaN
        without any).
    """
    recorded = np.unique(table["iteration"])
    counted = recorded[len(recorded) - max(1, round(LAST * len(recorded))) :] if len(recorded) else recorded
    rows = []
    for stage, part in table[table["iteration"].isin(counted)].groupby("stage"):
        totals = {name: part[name].sum() for name in ("images", "rois", "inliers", "outliers")}
        row = {"stage": stage, "iou_threshold": part["iou_threshold"].iloc[0], "iterations": len(counted)} | totals
        histogram = row["iou_histogram"] = np.stack(part["iou_histogram"].tolist()).sum(axis=0)
        for percent in (50, 60, 70):
            row[f"positives_{percent}"] = _share(histogram[percent * IOU_BINS // 100 :].sum(), row["rois"])
        row["outlier_share"] = _share(row["outliers"], row["inliers"] + row["outliers"])
        for target in TARGETS:
            mean = _share(part[f"{target}_sum"].sum(), row["inliers"])
            variance = _share(part[f"{target}_square_sum"].sum(), row["inliers"]) - mean**2
            row[f"{target}_mean"], row[f"{target}_std"] = mean, float(np.sqrt(np.maximum(variance, 0)))
            row[f"{target}_histogram"] = np.stack(part[f"{target}_histogram"].tolist()).sum(axis=0)
        rows.append(row)
    return pd.DataFrame(rows)


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")
