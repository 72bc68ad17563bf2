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

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.detections import read_coco_results, read_detections
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable, ground_truth_table
from cascadebench.metrics.coco.rules import AP_AT_IOU, IOUS
from cascadebench.metrics.coco.stage_matches import match_stages
from cascadebench.uncertainty.bootstrap import RESAMPLES, bootstrap
from cascadebench.uncertainty.crossings import CROSSING, LEAST_SHARE, crossing_interval, crossings
from cascadebench.uncertainty.curves import IOU_RANGES, QUANTITIES, Measured, read_off, signed_sum
from cascadebench.uncertainty.intervals import interval
from cascadebench.uncertainty.simulated_coverage import coverage_warning, simulated_as


def compare_files(
    annotations: str | Path,
    files: Sequence[str | Path],
    test_stages: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Difference of AP between two files of detections: at every IoU threshold, over ranges, and where it crosses zero.

    Parameters
    ----------
    annotations : str or Path
        COCO annotations, JSON.
    files : two of str or Path, A and B
        COCO results, ``.json``, or CascadeBench's ``.parquet``.
    test_stages : sequence of str
        One test stage, of every file that has test stages, or that of A and that of B (``""`` for COCO results); empty
        where no file has several.
    resamples, seed : int
        Resamples of the images, the same for both, and their seed.

    Returns
    -------
    dict
        ``test_stages`` of A and B, ``resamples``, ``seed``, ``images``, ``classes`` (with objects),
        ``coverage_warning`` (where such intervals do not hold as they should in simulation; empty: they do),
        ``absent_classes`` (that a resample lacks, in the mean), ``empty_resamples`` (without any ground truth, left
        out); ``AP`` over all thresholds, ``per_iou``
        (with ``iou``) at each and ``ranges`` (with ``range``) over :data:`cascadebench.uncertainty.curves.IOU_RANGES`:
        ``a``, ``b``, ``delta`` = b - a, ``low`` and ``high`` (95%; None where the resamples are too few),
        ``p_greater`` (share of the resamples in which B is better, ties counted half); ``crossing`` of the two curves:
        ``crossings`` (their number), ``iou`` if it is one, ``low``, ``high``, ``share`` (of the resamples that cross
        exactly once; without interval below :data:`cascadebench.uncertainty.crossings.LEAST_SHARE`).

    Raises
    ------
    InputError
        If there are not two files, one is missing or malformed or has several test stages and none is chosen, or the
        detections do not belong to the annotations.
    """
    annotations, files = Path(annotations), [Path(file) for file in files]
    of_files = _stages_of_files(files, test_stages)
    table = ground_truth_table(read_ground_truth(annotations))
    sets, labels = {}, []
    for name, path, chosen in zip("ab", files, of_files, strict=True):
        rows, label = _one_stage(path, chosen)
        sets[name] = dict(match_stages(table, rows, [label], source=str(path)))[label]
        labels.append(label)
    drawn = bootstrap(table, sets, seed=seed, resamples=resamples)
    curves = {name: drawn.curve(name) for name in sets}
    crossing = _crossing(signed_sum([(1, curves["b"]), (-1, curves["a"])]), seed)
    rows = {name: _difference(curves["a"], curves["b"], ends, seed) for name, ends in QUANTITIES.items()}
    return {
        "test_stages": labels,
        "resamples": resamples,
        "seed": seed,
        "images": len(table.image_ids),
        "classes": table.known_classes,
        "coverage_warning": _warning(table, [*QUANTITIES, *([] if crossing["low"] is None else [CROSSING])]),
        "absent_classes": float(drawn.absent_classes.mean()),
        "empty_resamples": int(np.isnan(curves["a"].samples).any(axis=-1).sum()),
        "AP": rows["0.50-0.95"],
        "per_iou": [{"iou": iou} | rows[name] for iou, name in zip(IOUS, AP_AT_IOU, strict=True)],
        "ranges": [{"range": name} | rows[name] for name in IOU_RANGES],
        "crossing": crossing,
    }


def _warning(table: GroundTruthTable, quantities: Sequence[str]) -> str:
    """Where intervals of quantities of a difference do not hold as they should with so many images and classes."""
    numbers = dict.fromkeys(simulated_as(name, "B - A") for name in quantities)
    return coverage_warning(numbers, len(table.image_ids), table.known_classes, seeds=1)


def _stages_of_files(files: Sequence[Path], test_stages: Sequence[str]) -> list[str]:
    """The test stage that is asked for of each of two files; empty: none is."""
    if len(files) != 2:
        raise InputError(f"compare: --detections is given {_times(len(files))}; give it twice, for A and for B")
    if len(test_stages) > 2:
        raise InputError(
            f"compare: --test-stage is given {_times(len(test_stages))}; "
            "give it once, for every file that has test stages, or twice, for A and for B"
        )
    for path in files:
        if path.suffix not in (".json", ".parquet"):
            raise InputError(f"{path}: detections are COCO results, .json, or .parquet")
    if len(test_stages) == 1:
        found = ["" if path.suffix == ".json" else test_stages[0] for path in files]
        if test_stages[0] and not any(found):
            raise InputError(f"compare: --test-stage {test_stages[0]!r}: COCO results, as both files are, have none")
        return found
    return list(test_stages) or ["", ""]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _one_stage(path: Path, stage: str) -> tuple[pd.DataFrame, str]:
    """Detections of one test stage of a file, and its name; empty in COCO results."""
    if path.suffix == ".json":
        if stage:
            raise InputError(
                f"{path}: --test-stage {stage!r}: COCO results have no test stages; "
                "give --test-stage once, for the other file, or give '' here"
            )
        return read_coco_results(path), stage
    rows = read_detections(path)
    known = list(rows["test_stage"].unique())
    if len(known) > 1 and not stage:
        raise InputError(f"{path}: choose one of its test stages with --test-stage; there are: {', '.join(known)}")
    # A file without a single detection is any test stage that found nothing.
    if known and stage and stage not in known:
        raise InputError(
            f"{path}: no detection of test stage {stage!r}; there are: {', '.join(known)} "
            "(--test-stage given twice is for A, then for B)"
        )
    label = stage or (known[0] if known else "")
    return rows[rows["test_stage"] == label].reset_index(drop=True), label


def _difference(a: Measured, b: Measured, ends: tuple[float, float], seed: int) -> dict[str, float | None]:
    """Means of two curves over a range of IoU, and their difference."""
    a, b = (read_off(curve, *ends) for curve in (a, b))
    difference = signed_sum([(1, b), (-1, a)])
    held = interval({0: difference}, seed)
    known = difference.samples[~np.isnan(difference.samples)]
    better = float((known > 0).mean() + (known == 0).mean() / 2) if len(known) else float("nan")
    row = {"a": a.point, "b": b.point, "delta": held.value, "low": held.low, "high": held.high, "p_greater": better}
    return {key: _or_none(value) for key, value in row.items()}


def _crossing(difference: Measured, seed: int) -> dict[str, float | None]:
    """Where the difference changes its sign."""
    crossed = crossing_interval({0: difference}, seed)
    return {
        "crossings": int(np.isfinite(crossings(difference.point)).sum()),
        "iou": _or_none(crossed.value),
        "low": _or_none(crossed.low),
        "high": _or_none(crossed.high),
        "share": crossed.crossing_share,
    }


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def print_comparison(comparison: dict[str, Any], files: Sequence[Path], console: Console) -> None:
    """Print what :func:`compare_files` found in two files; fractions with three decimals."""
    table = Table("IoU", box=SIMPLE, caption=_caption(comparison, files))
    columns = ("a", "b", "delta", "low", "high", "p_greater")
    for name in ("A", "B", "B - A", "low", "high", "p"):
        table.add_column(name, justify="right")
    # The last range is AP, which stands first.
    rows = [("0.50:0.95", comparison["AP"]), *((f"{row['iou']:.2f}", row) for row in comparison["per_iou"])]
    rows += [(row["range"].replace("-", ":"), row) for row in comparison["ranges"][:-1]]
    for name, row in rows:
        cells = (row[column] for column in columns)
        table.add_row(name, *("-" if value is None else f"{value:.3f}" for value in cells))
    console.print(table)
    console.print(crossing_words(comparison["crossing"]), highlight=False)


def _caption(comparison: dict[str, Any], files: Sequence[Path]) -> str:
    sides = [
        f"{name}: {escape(str(path))}{escape(f', {stage}' if stage else '')}"
        for name, path, stage in zip("AB", files, comparison["test_stages"], strict=True)
    ]
    left_out = comparison["empty_resamples"]
    return (
        f"{', '.join(sides)}. 95% intervals of B - A from "
        f"{comparison['resamples']} paired resamples of {comparison['images']} images, "
        f"seed {comparison['seed']}; p: share of the resamples in which B is better. "
        f"A resample lacks {comparison['absent_classes']:.2g} classes in the mean"
        + (f"; {left_out} without any object are left out" if left_out else "")
        + (f". {comparison['coverage_warning']}" if comparison["coverage_warning"] else "")
    )


def crossing_words(crossing: dict[str, Any]) -> str:
    """What is printed of :func:`compare_files`'s ``crossing``."""
    share = f"{crossing['share']:.1%} of the resamples cross exactly once"
    if crossing["iou"] is None:
        count = f"cross {crossing['crossings']} times" if crossing["crossings"] else "do not cross"
        return f"The curves of A and B {count}; {share}."
    if crossing["low"] is None:
        where = f"no interval, as {share}, less than {LEAST_SHARE:.0%}"
    else:
        where = f"95% interval {crossing['low']:.3f} to {crossing['high']:.3f}; {share}"
    return f"The curves of A and B cross at IoU {crossing['iou']:.3f} ({where})."
