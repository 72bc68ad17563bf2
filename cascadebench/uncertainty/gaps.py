"""Gaps: by how much one test stage of a run is better than another, or than one of another run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cascadebench.detectors.inference_stages import all_test_stages
from cascadebench.study.run import ChosenVariant, Run
from cascadebench.study.study import PlannedRun

GAP_COLUMNS = ("run", "label", "framework", "backbone", "seed", "gap", "iou", "gap_ap")


@dataclass(frozen=True)
class Curve:
    """The curve of AP by IoU of one test stage of one run."""

    run: str
    test_stage: str


@dataclass(frozen=True)
class Gap:
    """A difference: of two curves, or of the gaps of two detectors."""

    name: str
    """Such as ``stage 3 - stage 2``."""
    minuend: "Curve | Gap"
    subtrahend: "Curve | Gap"


def coefficients(term: Curve | Gap) -> dict[Curve, int]:
    """How often a term counts every curve that it needs; one on both sides of a gap cancels out."""
    if isinstance(term, Curve):
        return {term: 1}
    counts = coefficients(term.minuend)
    for curve, count in coefficients(term.subtrahend).items():
        counts[curve] = counts.get(curve, 0) - count
    return {curve: count for curve, count in counts.items() if count}


def values_of(term: Curve | Gap, curves: Mapping[Curve, np.ndarray]) -> np.ndarray:
    """AP of a curve, or the difference that a gap is: float64 [..., IoU]; KeyError if a curve is not among `curves`."""
    return sum(count * np.asarray(curves[curve], dtype=np.float64) for curve, count in coefficients(term).items())


def stage_label(stage: int, classifiers: int) -> str:
    """Label of the test stage that stands for a stage of a cascade, counted from 1.

    It is ``(2,2)``, or ``(2,1)`` in a detector with one classifier: the last classifier up to this stage.
    """
    return f"({stage},{min(stage, classifiers)})"


def headline_gap(variant: ChosenVariant) -> str:
    """Name of the gap between a detector's headline test stage and the baseline."""
    is_last = variant.stages > 1 and variant.headline == stage_label(variant.stages, variant.classifiers)
    return f"stage {variant.stages} - baseline" if is_last else f"{variant.headline} - baseline"


def framework_gap(first: str, second: str) -> str:
    """Name of the gap between a detector in one framework and the same one in another."""
    return f"{first} - {second}"


def gaps_of_run(run: Run, baseline: Run | None) -> list[Gap]:
    """Gaps that a run may have.

    With T stages these are ``stage T - stage t`` for every earlier t, ``stage T - baseline``, ``<headline test stage> -
    baseline`` where the headline is another than stage T, and with several classifiers ``<test stage> - stage T`` for
    every mean of all of them. Stage t is the test stage of :func:`stage_label`; the baseline stands with its headline
    test stage. A run with one stage has no gap ``stage T - baseline``: its headline says it.

    Without a baseline, or if the run is it, there is no gap to it.
    """
    variant, last = run.variant, f"stage {run.variant.stages}"
    stages = {t: Curve(run.id, stage_label(t, variant.classifiers)) for t in range(variant.stages, 0, -1)}
    of_last = stages.pop(variant.stages)
    gaps = [Gap(f"{last} - stage {t}", of_last, curve) for t, curve in stages.items()]
    if baseline is not None and baseline.id != run.id:
        compared = {headline_gap(variant): Curve(run.id, variant.headline)}
        if variant.stages > 1:
            compared = {f"{last} - baseline": of_last} | compared
        reference = Curve(baseline.id, baseline.variant.headline)
        gaps += [Gap(name, curve, reference) for name, curve in compared.items()]
    means = [one.label for one in all_test_stages(variant.stages, variant.classifiers) if len(one.classifiers) > 1]
    return gaps + [Gap(f"{label} - {last}", Curve(run.id, label), of_last) for label in means]


def baselines_of(runs: Sequence[PlannedRun], label: str) -> dict[tuple[str, str, int], Run]:
    """Runs of the baseline by :func:`conditions`."""
    return {conditions(planned.run): planned.run for planned in runs if planned.label == label}


def conditions(run: Run) -> tuple[str, str, int]:
    """What a run shares with the baseline that it is compared with: framework, backbone, seed."""
    return run.framework, run.backbone.name, run.seed


def gaps_by_seed(runs: Iterable[Run], baselines: Mapping[tuple[str, str, int], Run]) -> dict[str, dict[int, Gap]]:
    """Gaps of the runs of one detector by name and seed, whether or not the runs are evaluated."""
    gaps: dict[str, dict[int, Gap]] = {}
    for run in runs:
        for gap in gaps_of_run(run, baselines.get(conditions(run))):
            gaps.setdefault(gap.name, {})[run.seed] = gap
    return gaps


def gap_differences(first: Mapping[int, Gap], second: Mapping[int, Gap]) -> dict[int, Gap]:
    """A gap of one detector minus the same of another, for every seed that both have.

    It is by how much one closes what the other leaves open.
    """
    return {seed: Gap(gap.name, gap, second[seed]) for seed, gap in first.items() if seed in second}


def gap_curves(curves: pd.DataFrame, runs: Sequence[PlannedRun], baseline: str) -> pd.DataFrame:
    """Differences of AP between test stages: all gaps of :func:`gaps_of_run`, run by run.

    Parameters
    ----------
    curves : DataFrame
        run, test_stage, iou, ap (of all categories); one row each.
    baseline : str
        Label of the baseline in `runs`: the run of that label with the same framework, backbone and seed.

    Returns
    -------
    DataFrame
        run, label, framework, backbone, seed, gap (text such as ``stage 3 - stage 2``), iou, gap_ap (difference of AP
        in [-1, 1]). A gap for which `curves` lacks one of the two is left out.
    """
    by_iou = curves.pivot(index=["run", "test_stage"], columns="iou", values="ap")
    known = {Curve(*place): row.to_numpy() for place, row in by_iou.iterrows()}
    baselines, rows = baselines_of(runs, baseline), []
    for planned in runs:
        run = planned.run
        for gap in gaps_of_run(run, baselines.get(conditions(run))):
            if coefficients(gap).keys() <= known.keys():
                about = (run.id, planned.label, *conditions(run), gap.name)
                rows += [(*about, iou, value) for iou, value in zip(by_iou.columns, values_of(gap, known), strict=True)]
    return pd.DataFrame(rows, columns=GAP_COLUMNS)
