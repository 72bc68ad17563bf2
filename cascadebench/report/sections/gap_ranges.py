"""Gaps over ranges of IoU, where curves cross, and how the gaps of two detectors differ."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from cascadebench.report.data.collect import AP_BY_IOU, Detector, RunRecord, StudyResults
from cascadebench.report.parts.cells import ABSENT, Cell, Column, Group, Line, Row, Table, points, signed_points
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
        values = np.array([row[name] for name in AP_BY_IOU])
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


def _of_seed(detector: Detector | None, seed: int) -> RunRecord | None:
    return next((one for one in detector.runs if one.run.seed == seed), None) if detector else None


def _over_seeds(detector: Detector, baseline: Detector | None, curves: Curves) -> dict[str, list[tuple[int, Gap]]]:
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


Intervals = dict[tuple[str, str], tuple[float, float]]
"""Ends of a 95% interval by name of the gap and quantity, of one detector."""


def _intervals(results: StudyResults, detector: Detector) -> Intervals:
    run = detector.runs[0].run
    words = [detector.label, run.framework, run.backbone.name]
    return {
        (row["gap"], row["quantity"]): (row["low"], row["high"])
        for row in results.tables["intervals"].to_dict("records")
        if [row["label"], row["framework"], row["backbone"]] == words and np.isfinite(row["low"])
    }


def _row(name: str, gap: str, note: str, gaps: list[tuple[int, Gap]], curves: Curves, intervals: Intervals) -> Row:
    """Row of a gap, which ``intervals.csv`` calls `gap`."""
    values = [gap_values(gap, curves) for _, gap in gaps]
    means = np.mean([value.by_range for value in values], axis=0)
    cells = []
    for mean, quantity in zip(means, IOU_RANGES, strict=True):
        ends = [signed_points(end).text for end in intervals.get((gap, quantity), ())]
        notes = (Line(" to ".join(ends), "muted"),) if ends else ()
        cells.append(Cell(signed_points(float(mean)).text or points(None), notes))
    cells.append(_crossing(values, intervals.get((gap, CROSSING))))
    return Row(Cell(name.replace(" - ", " − "), (Line(note, "muted"),)), tuple(cells))


def _crossing(values: list[GapValues], interval: tuple[float, float] | None) -> Cell:
    """Where the mean over the seeds changes sign, with an interval if it does so once, and to which side."""
    mean = np.mean([value.by_iou for value in values], axis=0)
    found = crossings(mean, np.zeros_like(mean))
    places = found[np.isfinite(found)]
    if not len(places):
        return Cell(ABSENT)
    first_is_better = mean[mean != 0][-1] > 0
    side = "first is better above" if first_is_better else "first is worse above"
    note = side if len(places) == 1 else f"crosses {len(places)} times; {side} the last"
    ends = (Line("{:.3f} to {:.3f}".format(*interval), "muted"),) if interval and len(places) == 1 else ()
    return Cell(", ".join(f"{place:.3f}" for place in places), (*ends, Line(note, "muted")))


def gap_range_table(results: StudyResults) -> Table:
    """Every gap over every range, and the differences of the gaps of each later cascade and the first one."""
    curves, groups = _curves(results), []
    for title, detectors in results.panels():
        baseline = next((one for one in detectors if one.label == results.baseline), None)
        gaps = {one.label: _over_seeds(one, baseline if one is not baseline else None, curves) for one in detectors}
        known = {one.label: _intervals(results, one) for one in detectors}
        rows = [
            _row(name, name, label, found, curves, known[label])
            for label, by_name in gaps.items()
            for name, found in by_name.items()
        ]
        groups.append(Group(title, tuple(rows)))
        cascades = [one.label for one in detectors if one.runs[0].run.variant.stages > 1]
        rows = [
            _row(name, f"({name}) - ({name} of {cascades[0]})", f"{label} − {cascades[0]}", pairs, curves, known[label])
            for label in cascades[1:]
            for name, pairs in _differences(gaps[label], gaps[cascades[0]])
        ]
        groups.append(
            Group(f"{title}: gaps of one cascade minus the same gaps of {cascades[0]}" if rows else "", tuple(rows))
        )
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
