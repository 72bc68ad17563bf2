"""Intervals of a study: every detector at every test stage, and every gap, from the same resamples of the images.

A detector is a label in one framework with one backbone; its seeds are one value with an interval over images and
seeds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import combinations, permutations
from typing import Any

from cascadebench.core.files import write_csv
from cascadebench.study.study import Detector, PlannedRun, by_detector
from cascadebench.uncertainty.crossings import CROSSING, crossing_interval
from cascadebench.uncertainty.curves import QUANTITIES
from cascadebench.uncertainty.gaps import Curve, Gap, baselines_of, framework_gap, gap_differences, gaps_by_seed
from cascadebench.uncertainty.intervals import interval
from cascadebench.uncertainty.resampled_study import ResampledStudy
from cascadebench.uncertainty.simulated_coverage import simulated_as, simulated_coverage

COLUMNS = (
    "label", "framework", "backbone", "test_stage", "gap", "quantity", "value", "low", "high", "image_error",
    "seed_error", "crossing_share", "seeds", "resamples", "empty_resamples", "absent_classes", "bootstrap_seed",
    "images", "classes", "simulated_coverage",
)  # fmt: skip
"""Columns of ``intervals.csv``."""

GapRow = tuple[Detector, str, dict[int, Gap]]
"""The detector that a gap stands under, its name, and the gap of every seed."""


def write_intervals(resampled: ResampledStudy) -> None:
    """Write ``results/studies/<study>/intervals.csv`` from the runs that are evaluated, and from imported detections.

    Raises
    ------
    InputError
        If the prepared dataset is missing, or the number of resamples or their seed is out of range.
    """
    detectors = {
        detector: {planned.run.seed: planned for planned in runs}
        for detector, runs in by_detector(resampled.evaluated).items()
    }
    baselines = baselines_of(resampled.study.runs, resampled.study.file.baseline)
    gaps = {key: gaps_by_seed((one.run for one in runs.values()), baselines) for key, runs in detectors.items()}
    rows = []
    for detector, runs in detectors.items():
        for stage in next(iter(runs.values())).run.variant.test_stages:
            curves = {seed: Curve(planned.run.id, stage.label) for seed, planned in runs.items()}
            rows += _rows(resampled, detector, curves, test_stage=stage.label)
        for name, by_seed in gaps[detector].items():
            rows += _rows(resampled, detector, by_seed, gap=name)
    between = (*_between_detectors(detectors, gaps, resampled), *_between_frameworks(detectors, resampled))
    for detector, name, by_seed in between:
        rows += _rows(resampled, detector, by_seed, gap=name)
    for imported in resampled.imported:
        for label in imported.file.test_stages:
            detector = Detector(imported.file.title, imported.framework, "")
            rows += _rows(resampled, detector, {0: Curve(imported.id, label)}, test_stage=label)
    write_csv(resampled.results.study(resampled.study.name).intervals, rows, COLUMNS)


def _between_detectors(
    detectors: Mapping[Detector, Mapping[int, PlannedRun]],
    gaps: Mapping[Detector, Mapping[str, Mapping[int, Gap]]],
    resampled: ResampledStudy,
) -> Iterator[GapRow]:
    """Gaps of one detector minus those of the same name of another, and the headline of one minus the other's.

    All are over the seeds that both have. A headline minus the baseline's is a gap of the detector itself already.
    """
    for first, second in permutations(detectors, 2):
        if first.conditions != second.conditions:
            continue
        for name, ours in gaps[first].items():
            differences = gap_differences(ours, gaps[second].get(name, {}))
            yield first, f"({name}) - ({name} of {second.label})", differences
        if resampled.study.file.baseline not in (first.label, second.label):
            name = f"headline - headline of {second.label}"
            yield first, name, _headline_gaps(name, detectors[first], detectors[second])


def _between_frameworks(
    detectors: Mapping[Detector, Mapping[int, PlannedRun]], resampled: ResampledStudy
) -> Iterator[GapRow]:
    """The same detector's headline in one framework minus another; the gaps stand under the first."""
    for first, second in combinations(resampled.study.file.frameworks, 2):
        name = framework_gap(first, second)
        for detector, ours in detectors.items():
            if detector.framework == first:
                theirs = detectors.get(replace(detector, framework=second), {})
                yield detector, name, _headline_gaps(name, ours, theirs)


def _headline_gaps(name: str, ours: Mapping[int, PlannedRun], theirs: Mapping[int, PlannedRun]) -> dict[int, Gap]:
    """Headline test stages of one detector minus another's, a gap for every seed that both have."""
    return {
        seed: Gap(name, *(Curve(one.run.id, one.run.variant.headline) for one in (planned, theirs[seed])))
        for seed, planned in ours.items()
        if seed in theirs
    }


def _rows(
    resampled: ResampledStudy,
    detector: Detector,
    by_seed: Mapping[int, Curve] | Mapping[int, Gap],
    test_stage: str = "",
    gap: str = "",
) -> list[dict[str, Any]]:
    """One row per quantity of a test stage, or of a gap, over the seeds whose runs are evaluated; none without any."""
    by_seed = {seed: term for seed, term in by_seed.items() if resampled.has(term)}
    if not by_seed:
        return []
    intervals = {
        name: interval(
            {seed: resampled.number(term, *ends) for seed, term in by_seed.items()}, resampled.seed, resampled.scatter
        )
        for name, ends in QUANTITIES.items()
    }
    if gap:
        differences = {seed: resampled.difference(term) for seed, term in by_seed.items()}
        intervals[CROSSING] = crossing_interval(differences, resampled.seed, resampled.scatter)
    about = asdict(detector) | {"test_stage": test_stage, "gap": gap}
    size = {"images": len(resampled.table.image_ids), "classes": resampled.table.known_classes}
    settings = {"absent_classes": resampled.absent_classes, "bootstrap_seed": resampled.seed} | size
    rows = [about | {"quantity": name} | asdict(found) | settings for name, found in intervals.items()]
    for row in rows:
        of = simulated_as(row["quantity"], gap)
        row["simulated_coverage"] = simulated_coverage(of, **size, seeds=row["seeds"])
    return rows
