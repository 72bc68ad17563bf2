"""Intervals of a study: every detector at every test stage, and every gap, from the same resamples of the images.

A detector is a label in one framework with one backbone; its seeds are one value with an interval over images and
seeds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from cascadebench.evaluation.bootstrap import bootstrap
from cascadebench.evaluation.detections import read_detections
from cascadebench.evaluation.gaps import (
    IOU_RANGES,
    Curve,
    Gap,
    crossings,
    framework_gap,
    gap_differences,
    gaps_of_run,
    only_crossing,
    over_ranges,
    values_of,
)
from cascadebench.evaluation.ground_truth import read_ground_truth
from cascadebench.evaluation.ground_truth_table import GroundTruthTable, ground_truth_table
from cascadebench.evaluation.intervals import PERCENTILES, absolute_interval, gap_interval, quantities
from cascadebench.evaluation.stage_matches import match_stages
from cascadebench.evaluation.summary import AP_AT_IOU
from cascadebench.files import write_text
from cascadebench.imported import ImportedRun, find_imported
from cascadebench.study import PlannedRun, Study

COLUMNS = (
    "label", "framework", "backbone", "test_stage", "gap", "quantity", "value", "low", "high", "standard_error",
    "image_error", "seed_error", "bias", "seeds", "resamples", "empty_resamples", "bootstrap_seed",
)  # fmt: skip
"""Columns of ``intervals.csv``."""
CROSSING = "crossing"
"""Quantity of a gap between two curves: the IoU at which they cross."""

Curves = dict[Curve, np.ndarray]
"""AP at every IoU: float64 [IoU], or [resamples, IoU]."""


def write_intervals(study: Study, results: Path, resamples: int, seed: int) -> None:
    """Write ``results/studies/<study>/intervals.csv`` from the runs that are evaluated.

    Parameters
    ----------
    results : Path
        The folder that holds ``runs/``, ``datasets/`` and ``studies/``.
    resamples, seed : int
        Resamples of the images, the same for everything, and their seed.

    Raises
    ------
    InputError
        If the prepared dataset is missing or `resamples` or `seed` is out of range.
    """
    evaluated = [one for one in study.runs if (results / "runs" / one.run.id / "ap.parquet").exists()]
    values, draws = resampled_curves(evaluated, results, study.dataset.name, resamples, seed)
    imported, _ = find_imported(study, results)
    rows = interval_rows(evaluated, study.file.baseline, values, draws, seed)
    rows += framework_rows(evaluated, study.file.frameworks, values, draws, seed)
    rows += _imported_rows(imported, results, study.dataset.name, resamples, seed)
    rows = [row | {"bootstrap_seed": seed} for row in rows]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    path = results / "studies" / study.name / "intervals.csv"
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def resampled_curves(
    evaluated: Iterable[PlannedRun], results: Path, dataset: str, resamples: int, seed: int
) -> tuple[Curves, Curves]:
    """AP by IoU of every test stage of every run, on the validation set and on its resamples."""
    values: Curves = {}
    draws: Curves = {}
    truth = results / "datasets" / dataset / "val.json"
    table = None
    for planned in evaluated:
        if table is None:
            table = ground_truth_table(read_ground_truth(truth))
        path = results / "runs" / planned.run.id / "detections.parquet"
        labels = [stage.label for stage in planned.run.variant.test_stages]
        for label, *both in _resampled_stages(table, path, labels, resamples, seed):
            curve = Curve(planned.run.id, label)
            values[curve], draws[curve] = both
    return values, draws


def _resampled_stages(
    table: GroundTruthTable, path: Path, labels: list[str], resamples: int, seed: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """AP by IoU of every test stage of a file of detections, and on the resamples."""
    for label, matches in match_stages(table, read_detections(path), labels, source=str(path)).items():
        # One set at a time: the resamples depend on the seed alone, and the classes' AP of all would be large.
        drawn = bootstrap(table, {label: matches}, seed=seed, resamples=resamples)
        yield label, _by_iou(drawn.ap[label]), _by_iou(drawn.draws[label])


def _imported_rows(
    imported: list[ImportedRun], results: Path, dataset: str, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of the test stages of imported detections, which have no gap to anything."""
    rows: list[dict[str, Any]] = []
    table = ground_truth_table(read_ground_truth(results / "datasets" / dataset / "val.json")) if imported else None
    for one in imported:
        about = {"label": one.file.title, "framework": one.framework, "backbone": "", "gap": ""}
        path, labels = results / one.id / "detections.parquet", list(one.file.test_stages)
        for label, ap, drawn in _resampled_stages(table, path, labels, resamples, seed):
            curve = Curve(one.id, label)
            rows += _rows_of(about | {"test_stage": label}, [curve], {curve: ap}, {curve: drawn}, seed)
    return rows


def _by_iou(ap: np.ndarray) -> np.ndarray:
    """Mean over the classes at every IoU: float64 [..., IoU]."""
    of_all = quantities(ap)
    return np.stack([of_all[name] for name in AP_AT_IOU], axis=-1)


def interval_rows(
    evaluated: list[PlannedRun], baseline: str, values: Curves, draws: Curves, seed: int
) -> list[dict[str, Any]]:
    """Rows of ``intervals.csv``: every detector's test stages, its gaps, and the gaps between cascades' gaps."""
    rows: list[dict[str, Any]] = []
    gaps_by_detector: dict[tuple[str, str, str], list[list[Gap]]] = {}
    baselines = {_conditions(one): one for one in evaluated if one.label == baseline}
    for (label, framework, backbone), runs in _detectors(evaluated).items():
        about = {"label": label, "framework": framework, "backbone": backbone}
        for stage in runs[0].run.variant.test_stages:
            curves = [Curve(one.run.id, stage.label) for one in runs]
            rows += _rows_of(about | {"test_stage": stage.label, "gap": ""}, curves, values, draws, seed)
        paired = [one for one in runs if _conditions(one) in baselines] or runs
        of_seeds = [gaps_of_run(_stages(one), _reference(one, baselines)) for one in paired]
        for gaps in zip(*of_seeds, strict=True):
            rows += _rows_of(about | {"test_stage": "", "gap": gaps[0].name}, list(gaps), values, draws, seed)
        gaps_by_detector[label, framework, backbone] = of_seeds
    return rows + _between_cascades(gaps_by_detector, values, draws, seed)


def _between_cascades(
    gaps_by_detector: Mapping[tuple[str, str, str], list[list[Gap]]], values: Curves, draws: Curves, seed: int
) -> list[dict[str, Any]]:
    """Gap of one detector minus the gap of the same name of another, in the same framework and backbone."""
    rows: list[dict[str, Any]] = []
    for first, ours in gaps_by_detector.items():
        for second, theirs in gaps_by_detector.items():
            if first[1:] != second[1:] or first == second or len(ours) != len(theirs):
                continue
            of_seeds = [gap_differences(*pair) for pair in zip(ours, theirs, strict=True)]
            for gaps in zip(*of_seeds, strict=True):
                about = {"label": first[0], "framework": first[1], "backbone": first[2], "test_stage": ""}
                name = f"({gaps[0].name}) - ({gaps[0].name} of {second[0]})"
                rows += _rows_of(about | {"gap": name}, list(gaps), values, draws, seed)
    return rows


def framework_rows(
    evaluated: list[PlannedRun], frameworks: Sequence[str], values: Curves, draws: Curves, seed: int
) -> list[dict[str, Any]]:
    """Rows of ``intervals.csv`` for the same detector in two frameworks: its headline in the first minus the second.

    The two are paired by seed and by resample; seeds that only one of them has take no part. The rows stand under the
    first framework.
    """
    detectors = _detectors(evaluated)
    rows: list[dict[str, Any]] = []
    for first, second in combinations(frameworks, 2):
        name = framework_gap(first, second)
        for (label, framework, backbone), ours in detectors.items():
            if framework != first:
                continue
            theirs = {one.run.seed: one.run for one in detectors.get((label, second, backbone), ())}
            gaps = [
                Gap(name, *(Curve(run.id, run.variant.headline) for run in (one.run, theirs[one.run.seed])))
                for one in ours
                if one.run.seed in theirs
            ]
            about = {"label": label, "framework": first, "backbone": backbone, "test_stage": "", "gap": name}
            rows += _rows_of(about, list(gaps), values, draws, seed) if gaps else []
    return rows


def _rows_of(
    about: dict[str, Any], terms: list[Curve | Gap], values: Curves, draws: Curves, seed: int
) -> list[dict[str, Any]]:
    """One row per quantity of a value with its seeds."""
    by_iou = np.stack([values_of(term, values) for term in terms])
    drawn = np.stack([values_of(term, draws) for term in terms])
    rows = []
    for quantity, measured in _quantities(by_iou).items():
        resampled = _quantities(drawn)[quantity]
        interval = gap_interval(measured, resampled, seed) if about["gap"] else absolute_interval(measured, resampled)
        rows.append(about | {"quantity": quantity} | asdict(interval))
    if isinstance(terms[0], Gap) and isinstance(terms[0].minuend, Curve):
        rows.append(about | {"quantity": CROSSING} | _crossing(terms, values, draws))
    return rows


def _quantities(by_iou: np.ndarray) -> dict[str, np.ndarray]:
    """AP at every IoU and over the ranges, of [..., IoU]."""
    ranges = over_ranges(by_iou)
    return {name: by_iou[..., place] for place, name in enumerate(AP_AT_IOU)} | {
        name: ranges[..., place] for place, name in enumerate(IOU_RANGES)
    }


def _crossing(gaps: list[Gap], values: Curves, draws: Curves) -> dict[str, Any]:
    """Where the mean curves of the seeds cross, with the percentiles of the resamples in which they cross once."""
    found = []
    for curves in (values, draws):
        pair = [np.mean([values_of(getattr(gap, side), curves) for gap in gaps], axis=0)
                for side in ("minuend", "subtrahend")]  # fmt: skip
        found.append(only_crossing(crossings(*pair)))
    known = found[1][np.isfinite(found[1])]
    low, high = np.percentile(known, PERCENTILES) if len(known) and np.isfinite(found[0]) else (np.nan, np.nan)
    return {
        "value": float(found[0]),
        "low": float(low),
        "high": float(high),
        "seeds": len(gaps),
        "resamples": len(found[1]),
        "empty_resamples": len(found[1]) - len(known),
    }


def _detectors(evaluated: Iterable[PlannedRun]) -> dict[tuple[str, str, str], list[PlannedRun]]:
    """Runs that differ in their seed only, together."""
    found: dict[tuple[str, str, str], list[PlannedRun]] = {}
    for one in evaluated:
        found.setdefault((one.label, one.run.framework, one.run.backbone.name), []).append(one)
    return found


def _conditions(planned: PlannedRun) -> tuple[str, str, int]:
    return planned.run.framework, planned.run.backbone.name, planned.run.seed


def _reference(planned: PlannedRun, baselines: Mapping[tuple[str, str, int], PlannedRun]) -> SimpleNamespace | None:
    found = baselines.get(_conditions(planned))
    return _stages(found) if found else None


def _stages(planned: PlannedRun) -> SimpleNamespace:
    """A run as :func:`cascadebench.evaluation.gaps.gaps_of_run` reads it."""
    variant = planned.run.variant
    return SimpleNamespace(
        run=planned.run.id, stages=variant.stages, classifiers=variant.classifiers, headline=variant.headline
    )
