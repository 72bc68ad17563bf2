"""Comparing any two files of detections on the same images, with paired intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cascadebench.errors import InputError
from cascadebench.evaluation.ap_table import IOUS
from cascadebench.evaluation.bootstrap import bootstrap
from cascadebench.evaluation.detections import read_coco_results, read_detections
from cascadebench.evaluation.ground_truth import read_ground_truth
from cascadebench.evaluation.ground_truth_table import ground_truth_table
from cascadebench.evaluation.intervals import gap_interval, quantities
from cascadebench.evaluation.stage_matches import match_stages
from cascadebench.evaluation.summary import AP_AT_IOU


def compare_files(
    annotations: Path, files: Sequence[Path], test_stages: Sequence[str], resamples: int, seed: int
) -> dict[str, Any]:
    """Difference of AP between two files of detections, at every IoU threshold and over all.

    Parameters
    ----------
    annotations : Path
        COCO annotations, JSON.
    files : two Paths, A and B
        COCO results, ``.json``, or CascadeBench's ``.parquet``.
    test_stages : sequence of str
        The test stage of A and that of B; empty where a file has one only.
    resamples, seed : int
        Resamples of the images, the same for both, and their seed.

    Returns
    -------
    dict
        ``resamples``, ``seed``, ``images``; ``AP`` over all thresholds and ``per_iou`` (with ``iou``) at each:
        ``a``, ``b``, ``delta`` = b - a, ``low`` and ``high`` (95%, percentiles of the paired
        differences), ``p_greater`` (share of the resamples in which B is better, ties counted half).

    Raises
    ------
    InputError
        If there are not two files, one is missing or malformed or has several test stages and none is chosen, or the
        detections do not belong to the annotations.
    """
    if len(files) != 2 or len(test_stages) not in (0, 2):
        raise InputError("compare: --detections is given twice, for A and for B; --test-stage twice or not at all")
    table = ground_truth_table(read_ground_truth(annotations))
    sets = {}
    for name, path, stage in zip("ab", files, test_stages or ("", ""), strict=True):
        matches = match_stages(table, _one_stage(path, stage), [stage], source=str(path))
        sets[name] = matches[stage]
    drawn = bootstrap(table, sets, seed=seed, resamples=resamples)
    values = {name: quantities(drawn.ap[name]) for name in sets}
    draws = {name: quantities(drawn.draws[name]) for name in sets}
    rows = {}
    for quantity in values["a"]:
        difference = draws["b"][quantity] - draws["a"][quantity]
        a, b = (float(values[name][quantity]) for name in "ab")
        interval = gap_interval(np.array([b - a]), difference[None], seed)
        known = difference[~np.isnan(difference)]
        better = float((known > 0).mean() + (known == 0).mean() / 2) if len(known) else float("nan")
        rows[quantity] = {
            "a": a, "b": b, "delta": b - a, "low": interval.low, "high": interval.high, "p_greater": better,
        }  # fmt: skip
    rows = {name: {key: _or_none(value) for key, value in row.items()} for name, row in rows.items()}
    return {
        "resamples": resamples,
        "seed": seed,
        "images": len(table.image_ids),
        "AP": rows["AP"],
        "per_iou": [{"iou": iou} | rows[name] for iou, name in zip(IOUS, AP_AT_IOU, strict=True)],
    }


def _one_stage(path: Path, stage: str) -> pd.DataFrame:
    """Detections of one test stage of a file, under the name `stage`."""
    if path.suffix not in (".json", ".parquet"):
        raise InputError(f"{path}: detections are COCO results, .json, or .parquet")
    rows = read_coco_results(path) if path.suffix == ".json" else read_detections(path)
    known = list(rows["test_stage"].unique())
    if not stage and len(known) < 2:
        return rows.assign(test_stage="")
    if stage not in known:
        there = ", ".join(known) or "none"
        raise InputError(f"{path}: test stage {stage!r}: choose one of this file with --test-stage; there are: {there}")
    return rows[rows["test_stage"] == stage].reset_index(drop=True)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def print_comparison(comparison: dict[str, Any], files: Sequence[Path], console: Console) -> None:
    """Print what :func:`compare_files` found in two files; fractions with three decimals."""
    caption = (
        f"A: {escape(str(files[0]))}, B: {escape(str(files[1]))}. 95% intervals of B - A from "
        f"{comparison['resamples']} paired resamples of {comparison['images']} images, "
        f"seed {comparison['seed']}; p: share of the resamples in which B is better"
    )
    table = Table("IoU", box=SIMPLE, caption=caption)
    columns = ("a", "b", "delta", "low", "high", "p_greater")
    for name in ("A", "B", "B - A", "low", "high", "p"):
        table.add_column(name, justify="right")
    rows = [("0.50:0.95", comparison["AP"]), *((f"{row['iou']:.2f}", row) for row in comparison["per_iou"])]
    for name, row in rows:
        cells = (row[column] for column in columns)
        table.add_row(name, *("-" if value is None else f"{value:.3f}" for value in cells))
    console.print(table)
