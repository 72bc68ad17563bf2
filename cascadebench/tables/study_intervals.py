"""Intervals of a study: every detector at every test stage, and every gap, from the same resamples of the images.

A detector is a label in one framework with one backbone; its seeds are one value with an interval over images and
seeds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations, permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from cascadebench.core.files import write_text
from cascadebench.imported.record import ImportedRun, find_imported
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable, ground_truth_table
from cascadebench.metrics.coco.stage_matches import match_stages
from cascadebench.study.study import PlannedRun, Study
from cascadebench.uncertainty.bootstrap import bootstrap
from cascadebench.uncertainty.crossing_intervals import crossing_interval
from cascadebench.uncertainty.gaps import CROSSING, Curve, Gap, curve_quantities, framework_gap, gaps_of_run, values_of
from cascadebench.uncertainty.intervals import absent_classes, absolute_interval, ap_by_iou, gap_interval

COLUMNS = (
    "label", "framework", "backbone", "test_stage", "gap", "quantity", "value", "low", "high", "standard_error",
    "image_error", "seed_error", "widening", "bias", "crossing_share", "seeds", "resamples", "empty_resamples",
    "absent_classes", "bootstrap_seed",
)  # fmt: skip
"""Columns of ``intervals.csv``."""

Detector = tuple[str, str, str]
"""Label, framework, backbone."""


@dataclass
class ResampledCurves:
    """AP at every IoU of test stages, on the validation set and on resamples that are the same for all.

    Attributes
    ----------
    seed : int
        Of the resamples.
    values : dict of Curve to ndarray, float64 [IoU]
    draws : dict of Curve to ndarray, float64 [resamples, IoU]
    absent_classes : float
        Classes that a resample lacks, in the mean over the resamples.
    """

    seed: int
    values: dict[Curve, np.ndarray] = field(default_factory=dict)
    draws: dict[Curve, np.ndarray] = field(default_factory=dict)
    absent_classes: float = np.nan

    def add(self, run: str, table: GroundTruthTable, path: Path, labels: list[str], resamples: int) -> None:
        """Resample every test stage of a file of detections."""
        for label, matches in match_stages(table, read_detections(path), labels, source=str(path)).items():
            # One set at a time: the resamples depend on the seed alone, and the classes' AP of all would be large.
            drawn = bootstrap(table, {label: matches}, seed=self.seed, resamples=resamples)
            curve = Curve(run, label)
            self.values[curve], self.draws[curve] = ap_by_iou(drawn.ap[label]), ap_by_iou(drawn.draws[label])
            self.absent_classes = float(absent_classes(drawn).mean())


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
    imported, _ = find_imported(study, results)
    curves = ResampledCurves(seed)
    if evaluated or imported:
        table = ground_truth_table(read_ground_truth(results / "datasets" / study.dataset.name / "val.json"))
    for planned in evaluated:
        labels = [stage.label for stage in planned.run.variant.test_stages]
        curves.add(planned.run.id, table, results / "runs" / planned.run.id / "detections.parquet", labels, resamples)
    for one in imported:
        curves.add(one.id, table, results / one.id / "detections.parquet", list(one.file.test_stages), resamples)
    rows = interval_rows(evaluated, study.file.baseline, curves)
    rows += framework_rows(evaluated, study.file.frameworks, curves)
    rows += _imported_rows(imported, curves)
    path = results / "studies" / study.name / "intervals.csv"
    write_text(path, pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False, lineterminator="\n"))


def _imported_rows(imported: list[ImportedRun], curves: ResampledCurves) -> list[dict[str, Any]]:
    """Rows of the test stages of imported detections, which have no gap to anything."""
    rows: list[dict[str, Any]] = []
    for one in imported:
        about = {"label": one.file.title, "framework": one.framework, "backbone": "", "gap": ""}
        for label in one.file.test_stages:
            rows += _rows_of(about | {"test_stage": label}, [Curve(one.id, label)], curves)
    return rows


def interval_rows(evaluated: list[PlannedRun], baseline: str, curves: ResampledCurves) -> list[dict[str, Any]]:
    """Rows of ``intervals.csv``: every detector's test stages, its gaps, and the gaps between detectors."""
    rows: list[dict[str, Any]] = []
    gaps: dict[Detector, dict[str, dict[int, Gap]]] = {}
    detectors = _detectors(evaluated)
    baselines = {_conditions(one): one for one in evaluated if one.label == baseline}
    for detector, runs in detectors.items():
        for stage in runs[0].run.variant.test_stages:
            terms = [Curve(one.run.id, stage.label) for one in runs]
            rows += _rows_of(_about(detector) | {"test_stage": stage.label, "gap": ""}, terms, curves)
        gaps[detector] = _gaps_by_seed(runs, baselines)
        for name, by_seed in gaps[detector].items():
            rows += _gap_rows(detector, name, list(by_seed.values()), curves)
    for first, second in permutations(detectors, 2):
        if first[1:] == second[1:]:
            rows += _between_detectors(first, second, gaps, curves)
            if baseline not in (first[0], second[0]):
                name = f"headline - headline of {second[0]}"
                rows += _gap_rows(first, name, _headline_gaps(name, detectors[first], detectors[second]), curves)
    return rows


def _gaps_by_seed(
    runs: list[PlannedRun], baselines: Mapping[tuple[str, str, int], PlannedRun]
) -> dict[str, dict[int, Gap]]:
    """Gaps of a detector's runs by name and seed; those to the baseline for the seeds that the baseline has."""
    found: dict[str, dict[int, Gap]] = {}
    for one in runs:
        for gap in gaps_of_run(_stages(one), _reference(one, baselines)):
            found.setdefault(gap.name, {})[one.run.seed] = gap
    return found


def _between_detectors(
    first: Detector, second: Detector, gaps: Mapping[Detector, dict[str, dict[int, Gap]]], curves: ResampledCurves
) -> list[dict[str, Any]]:
    """Gaps of one detector minus the gaps of the same name of another, over the seeds that both have."""
    rows: list[dict[str, Any]] = []
    for name, ours in gaps[first].items():
        theirs = gaps[second].get(name, {})
        differences = [Gap(name, gap, theirs[seed]) for seed, gap in ours.items() if seed in theirs]
        rows += _gap_rows(first, f"({name}) - ({name} of {second[0]})", differences, curves)
    return rows


def framework_rows(
    evaluated: list[PlannedRun], frameworks: Sequence[str], curves: ResampledCurves
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
            if framework == first:
                gaps = _headline_gaps(name, ours, detectors.get((label, second, backbone), []))
                rows += _gap_rows((label, framework, backbone), name, gaps, curves)
    return rows


def _headline_gaps(name: str, ours: list[PlannedRun], theirs: list[PlannedRun]) -> list[Gap]:
    """Headline test stages of one detector minus another's, a gap for every seed that both have."""
    others = {one.run.seed: one.run for one in theirs}
    return [
        Gap(name, *(Curve(run.id, run.variant.headline) for run in (one.run, others[one.run.seed])))
        for one in ours
        if one.run.seed in others
    ]


def _about(detector: Detector) -> dict[str, Any]:
    return dict(zip(("label", "framework", "backbone"), detector, strict=True))


def _gap_rows(detector: Detector, name: str, gaps: list[Gap], curves: ResampledCurves) -> list[dict[str, Any]]:
    """Rows of a gap over its seeds; none without a seed."""
    return _rows_of(_about(detector) | {"test_stage": "", "gap": name}, list(gaps), curves) if gaps else []


def _rows_of(about: dict[str, Any], terms: list[Curve | Gap], curves: ResampledCurves) -> list[dict[str, Any]]:
    """One row per quantity of a value with its seeds."""
    values, draws = (np.stack([values_of(term, known) for term in terms]) for known in (curves.values, curves.draws))
    resampled = curve_quantities(draws)
    found: dict[str, Any] = {}
    for quantity, measured in curve_quantities(values).items():
        if about["gap"]:
            found[quantity] = gap_interval(measured, resampled[quantity], curves.seed)
        else:
            found[quantity] = absolute_interval(measured, resampled[quantity])
    if about["gap"]:
        found[CROSSING] = crossing_interval(values, draws, curves.seed)
    settings = {"absent_classes": curves.absent_classes, "bootstrap_seed": curves.seed}
    return [about | {"quantity": name} | asdict(interval) | settings for name, interval in found.items()]


def _detectors(evaluated: Iterable[PlannedRun]) -> dict[Detector, list[PlannedRun]]:
    """Runs that differ in their seed only, together."""
    found: dict[Detector, list[PlannedRun]] = {}
    for one in evaluated:
        found.setdefault((one.label, one.run.framework, one.run.backbone.name), []).append(one)
    return found


def _conditions(planned: PlannedRun) -> tuple[str, str, int]:
    return planned.run.framework, planned.run.backbone.name, planned.run.seed


def _reference(planned: PlannedRun, baselines: Mapping[tuple[str, str, int], PlannedRun]) -> SimpleNamespace | None:
    found = baselines.get(_conditions(planned))
    return _stages(found) if found else None


def _stages(planned: PlannedRun) -> SimpleNamespace:
    """A run as :func:`cascadebench.uncertainty.gaps.gaps_of_run` reads it."""
    variant = planned.run.variant
    return SimpleNamespace(
        run=planned.run.id, stages=variant.stages, classifiers=variant.classifiers, headline=variant.headline
    )
