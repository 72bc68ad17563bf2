"""Gaps: by how much one test stage is better than another, at every IoU threshold, over ranges, and where curves cross.

A gap is a difference of two curves AP[..., IoU], or of two gaps. The leading axes are free: one curve has none,
bootstrap samples have one, and everything here gives the same for every sample.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cascadebench.detectors.inference_stages import TestStage, all_test_stages
from cascadebench.metrics.coco.rules import AP_AT_IOU, IOUS

IOU_RANGES = {"0.50-0.65": (0.5, 0.65), "0.70-0.80": (0.7, 0.8), "0.85-0.95": (0.85, 0.95), "0.50-0.95": (0.5, 0.95)}
"""Ranges of IoU thresholds over which gaps are averaged, ends included."""
CROSSING = "crossing"
"""Quantity of a gap in ``intervals.csv``: the IoU at which its two sides cross."""
GAP_COLUMNS = ("run", "label", "framework", "backbone", "seed", "gap", "iou", "gap_ap")
_CONDITIONS = ["framework", "backbone", "seed"]


@dataclass(frozen=True)
class Curve:
    """The curve of AP by IoU of one test stage of one run."""

    run: str
    test_stage: str


@dataclass(frozen=True)
class Gap:
    """A difference: of two curves, or of the gaps of two detectors.

    Attributes
    ----------
    name : str
        Such as ``stage 3 - stage 2``.
    minuend, subtrahend : Curve or Gap
    """

    name: str
    minuend: "Curve | Gap"
    subtrahend: "Curve | Gap"

    def curves(self) -> Iterator[Curve]:
        """Every curve that it needs."""
        for part in (self.minuend, self.subtrahend):
            yield from part.curves() if isinstance(part, Gap) else (part,)


@dataclass(frozen=True)
class GapValues:
    """A gap in numbers; differences of AP in [-1, 1] (between gaps, [-2, 2]).

    Attributes
    ----------
    by_iou : ndarray, float64 [..., IoU]
    by_range : ndarray, float64 [..., ranges]
        Means over :data:`IOU_RANGES`, in their order.
    crossings : ndarray, float64 [..., IoU - 1]
        See :func:`crossings`.
    """

    by_iou: np.ndarray
    by_range: np.ndarray
    crossings: np.ndarray


def values_of(term: Curve | Gap, curves: Mapping[Curve, np.ndarray]) -> np.ndarray:
    """AP of a curve, or the difference that a gap is: float64 [..., IoU].

    Raises
    ------
    KeyError
        If a curve is not among `curves`.
    """
    if isinstance(term, Curve):
        return np.asarray(curves[term], dtype=np.float64)
    return values_of(term.minuend, curves) - values_of(term.subtrahend, curves)


def gap_values(gap: Gap, curves: Mapping[Curve, np.ndarray], ious: Sequence[float] = IOUS) -> GapValues:
    """Everything that is read off a gap.

    Parameters
    ----------
    curves : mapping of Curve to ndarray, float [..., IoU]
        AP of all categories; for bootstrap samples [B, IoU], the same samples of images in every curve.
    ious : sequence of float
        Thresholds of the last axis, rising.
    """
    first, second = values_of(gap.minuend, curves), values_of(gap.subtrahend, curves)
    return GapValues(first - second, over_ranges(first - second, ious), crossings(first, second, ious))


def over_ranges(values: np.ndarray, ious: Sequence[float] = IOUS) -> np.ndarray:
    """Means over :data:`IOU_RANGES`, in their order: float64 [..., ranges] of values [..., IoU].

    NaN where a value in the range is, and for a range without a threshold.
    """
    places = np.round(np.asarray(ious), 6)
    means = []
    for low, high in IOU_RANGES.values():
        inside = (places >= low) & (places <= high)
        means.append(values[..., inside].mean(axis=-1) if inside.any() else np.full(values.shape[:-1], np.nan))
    return np.stack(means, axis=-1)


def curve_quantities(by_iou: np.ndarray) -> dict[str, np.ndarray]:
    """AP at every IoU threshold (``AP50`` ...) and over :data:`IOU_RANGES`, by name: float64 [...] of [..., IoU]."""
    ranges = over_ranges(by_iou)
    return {name: by_iou[..., place] for place, name in enumerate(AP_AT_IOU)} | {
        name: ranges[..., place] for place, name in enumerate(IOU_RANGES)
    }


def crossings(first: np.ndarray, second: np.ndarray, ious: Sequence[float] = IOUS) -> np.ndarray:
    """IoU at which two curves cross, between thresholds by linear interpolation.

    Curves that touch and part on the same side do not cross, and neither do those that are equal at an end. Where they
    are equal at one or several thresholds in a row and change sides there, they cross in the middle of those.

    Parameters
    ----------
    first, second : ndarray, float [..., IoU]

    Returns
    -------
    ndarray, float64 [..., IoU - 1]
        Entry k is the crossing found when threshold k + 1 was reached, NaN if there is none: all NaN for curves that do
        not cross. ``np.isfinite(...).sum(axis=-1)`` counts them; :func:`only_crossing` picks one where there is one.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    found = np.full((*difference.shape[:-1], difference.shape[-1] - 1), np.nan)
    side, height = np.zeros(difference.shape[:-1]), np.zeros(difference.shape[:-1])
    start = np.full(difference.shape[:-1], np.nan)  # first threshold of a stretch on which they are equal
    for place in range(difference.shape[-1]):
        here = difference[..., place]
        changes = (here != 0) & (side != 0) & (np.sign(here) == -side)
        if place:
            low, high = ious[place - 1], ious[place]
            between = low + (high - low) * height / np.where(changes, height + np.abs(here), 1)
            found[..., place - 1] = np.where(changes, np.where(np.isnan(start), between, (start + low) / 2), np.nan)
        equal = here == 0
        start = np.where(equal, np.where(np.isnan(start), ious[place], start), np.nan)
        # An unknown value ends what was known of the sides.
        side = np.where(equal, side, np.where(np.isnan(here), 0, np.sign(here)))
        height = np.where(equal, height, np.abs(np.nan_to_num(here)))
    return found


def only_crossing(found: np.ndarray) -> np.ndarray:
    """The crossing of curves that cross once: float64 [...] of :func:`crossings`; NaN for none or several."""
    once = np.isfinite(found).sum(axis=-1) == 1
    return np.where(once, np.nan_to_num(found).sum(axis=-1), np.nan)


def stage_label(stage: int, classifiers: int) -> str:
    """Label of the test stage that stands for a stage of a cascade, counted from 1.

    It is ``(2,2)``, or ``(2,1)`` in a detector with one classifier: the last classifier up to this stage.
    """
    return f"({stage},{min(stage, classifiers)})"


def gaps_of_run(run: Any, baseline: Any | None) -> list[Gap]:
    """Gaps that a run may have.

    With T stages these are ``stage T - stage t`` for every earlier t, ``stage T - baseline``, ``<headline test stage> -
    baseline``, and with several classifiers ``<test stage> - stage T`` for every mean of all of them. Stage t is the
    test stage of :func:`stage_label`; the baseline stands with its headline test stage. A run with one stage has no gap
    ``stage T - baseline``: its headline says it.

    Parameters
    ----------
    run, baseline : object with run (id), stages, classifiers, headline
        No baseline, or the run itself: no gap to it.
    """
    last = Curve(run.run, stage_label(run.stages, run.classifiers))
    gaps = [
        Gap(f"stage {run.stages} - stage {stage}", last, Curve(run.run, stage_label(stage, run.classifiers)))
        for stage in range(run.stages - 1, 0, -1)
    ]
    if baseline is not None and baseline.run != run.run:
        reference = Curve(baseline.run, baseline.headline)
        if run.stages > 1:
            gaps.append(Gap(f"stage {run.stages} - baseline", last, reference))
        gaps.append(Gap(f"{run.headline} - baseline", Curve(run.run, run.headline), reference))
    ensembles = [stage.label for stage in all_test_stages(run.stages, run.classifiers) if _is_ensemble(stage)]
    return gaps + [Gap(f"{label} - stage {run.stages}", Curve(run.run, label), last) for label in ensembles]


def _is_ensemble(stage: TestStage) -> bool:
    return len(stage.classifiers) > 1


def framework_gap(first: str, second: str) -> str:
    """Name in ``intervals.csv`` of the gap between a detector in one framework and the same one in another."""
    return f"{first} - {second}"


def gap_differences(first: Sequence[Gap], second: Sequence[Gap]) -> list[Gap]:
    """Gaps of one detector minus the gaps of the same name of another: by how much one closes what the other leaves
    open.
    """
    others = {gap.name: gap for gap in second}
    return [Gap(gap.name, gap, others[gap.name]) for gap in first if gap.name in others]


def gap_curves(curves: pd.DataFrame, runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Differences of AP between test stages: all gaps of :func:`gaps_of_run`, run by run.

    Parameters
    ----------
    curves : DataFrame
        run, test_stage, iou, ap (of all categories); one row each.
    runs : DataFrame
        run, label, framework, backbone, seed, stages and classifiers (int), headline (label of a test stage); one row
        per run.
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
    baselines = {_conditions(run): run for run in runs.itertuples() if run.label == baseline}
    rows = []
    for run in runs.itertuples():
        for gap in gaps_of_run(run, baselines.get(_conditions(run))):
            if all(curve in known for curve in gap.curves()):
                about = (run.run, run.label, *_conditions(run), gap.name)
                rows += [(*about, iou, value) for iou, value in zip(by_iou.columns, values_of(gap, known), strict=True)]
    return pd.DataFrame(rows, columns=GAP_COLUMNS)


def _conditions(run: Any) -> tuple:
    """What a run shares with the baseline that it is compared with."""
    return tuple(getattr(run, name) for name in _CONDITIONS)
