"""Gaps over ranges of IoU, where curves cross, and how the gaps of two detectors differ."""

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import numpy as np

from cascadebench.metrics.coco.rules import AP_AT_IOU
from cascadebench.report.data.study_results import DetectorRecord, Ends, RunRecord, StudyResults
from cascadebench.report.parts.cells import (
    ABSENT,
    Cell,
    Column,
    Group,
    Row,
    Table,
    from_to,
    note,
    points,
    signed_points,
)
from cascadebench.uncertainty.gaps import (
    CROSSING,
    IOU_RANGES,
    Curve,
    Gap,
    GapValues,
    crossings,
    gap_differences,
    gap_values,
    gaps_of_run,
)

Curves = dict[Curve, np.ndarray]


def _curves(results: StudyResults) -> Curves:
    """AP by IoU of every test stage of every run that has them."""
    found = {}
    for (run, stage), row in results.rows("ap", "test_stage").items():
        values = np.array([row[name] for name in AP_AT_IOU])
        if np.isfinite(values).all():
            found[Curve(run, stage)] = values
    return found


def _gaps(record: RunRecord, baseline: RunRecord | None) -> list[Gap]:
    first, other = (
        one and SimpleNamespace(
            run=one.id,
            stages=one.run.variant.stages,
            classifiers=one.run.variant.classifiers,
            headline=one.run.variant.headline,
        )
        for one in (record, baseline)
    )  # fmt: skip
    return gaps_of_run(first, other)


def _of_seed(detector: DetectorRecord | None, seed: int) -> RunRecord | None:
    return next((one for one in detector.runs if one.run.seed == seed), None) if detector else None


def _over_seeds(
    detector: DetectorRecord, baseline: DetectorRecord | None, curves: Curves
) -> dict[str, list[tuple[int, Gap]]]:
    """Gaps of a detector's runs, each with its seed, by name; those whose curves exist."""
    found: dict[str, list[tuple[int, Gap]]] = {}
    for record in detector.runs:
        for gap in _gaps(record, _of_seed(baseline, record.run.seed)):
            if all(curve in curves for curve in gap.curves()):
                found.setdefault(gap.name, []).append((record.run.seed, gap))
    return found


def _differences(
    ours: dict[str, list[tuple[int, Gap]]], theirs: dict[str, list[tuple[int, Gap]]]
) -> Iterator[tuple[str, list[tuple[int, Gap]]]]:
    """Gaps of one detector minus those of another, seed by seed."""
    for name, gaps in ours.items():
        others = dict(theirs.get(name, ()))
        pairs = [(seed, gap) for seed, one in gaps if seed in others for gap in gap_differences([one], [others[seed]])]
        if pairs:
            yield name, pairs


def _row(
    name: str, about: str, gaps: list[tuple[int, Gap]], curves: Curves, interval: Callable[[str], Ends | None]
) -> Row:
    """Row of a gap; `interval` gives the interval of a quantity of it."""
    values = [gap_values(gap, curves) for _, gap in gaps]
    means = np.mean([value.by_range for value in values], axis=0)
    cells = [
        Cell(signed_points(float(mean)).text or points(None), from_to(interval(quantity)))
        for mean, quantity in zip(means, IOU_RANGES, strict=True)
    ]
    return Row(Cell(name.replace(" - ", " − "), note(about)), (*cells, _crossing(values, interval(CROSSING))))


def _crossing(values: list[GapValues], interval: Ends | None) -> Cell:
    """Where the mean over the seeds changes sign, with an interval if it does so once, and to which side."""
    mean = np.mean([value.by_iou for value in values], axis=0)
    found = crossings(mean, np.zeros_like(mean))
    places = found[np.isfinite(found)]
    if not len(places):
        return Cell(ABSENT)
    first_is_better = mean[mean != 0][-1] > 0
    side = "first is better above" if first_is_better else "first is worse above"
    once = len(places) == 1
    ends = note("{:.3f} to {:.3f}".format(*interval)) if interval and once else ()
    sides = note(side if once else f"crosses {len(places)} times; {side} the last")
    return Cell(", ".join(f"{place:.3f}" for place in places), ends + sides)


def gap_range_table(results: StudyResults) -> Table:
    """Every gap over every range, and the differences of the gaps of each later cascade and the first one."""
    curves, groups = _curves(results), []
    for title, detectors in results.panels():
        baseline = next((one for one in detectors if one.label == results.baseline), None)
        gaps = [(one, _over_seeds(one, baseline if one is not baseline else None, curves)) for one in detectors]
        rows = [
            _row(name, detector.label, pairs, curves, partial(results.interval, detector, gap=name))
            for detector, by_name in gaps
            for name, pairs in by_name.items()
        ]
        groups.append(Group(title, tuple(rows)))
        cascades = [(one, by_name) for one, by_name in gaps if one.runs[0].run.variant.stages > 1]
        first, gaps_of_first = cascades[0] if cascades else (None, {})
        rows = [
            _row(
                name,
                f"{later.label} − {first.label}",
                pairs,
                curves,
                partial(results.interval, later, gap=f"({name}) - ({name} of {first.label})"),
            )
            for later, by_name in cascades[1:]
            for name, pairs in _differences(by_name, gaps_of_first)
        ]
        between = f"{title}: gaps of one cascade minus the same gaps of {first.label}" if rows else ""
        groups.append(Group(between, tuple(rows)))
    columns = [
        Column("Gap", kind="text"),
        *(Column(name.replace("-", "–"), group="mean over IoU") for name in IOU_RANGES),
    ]
    columns.append(Column("Crossing at IoU"))
    caption = (
        "Gaps of AP × 100, averaged over ranges of IoU thresholds and over seeds, and the IoU at which the two curves "
        "cross, by linear interpolation between thresholds; a dash: one of them is above at every threshold."
    )
    if len(results.tables["intervals"]):
        caption += (
            " Under a value its 95% interval, paired over resamples of the images (and of the seeds, if several). "
            "Under a crossing there is none if fewer than 95% of the resamples cross exactly once."
        )
    return Table("gap-ranges", caption, tuple(columns), tuple(groups))
