"""Gaps over ranges of IoU, where curves cross, and how the gaps of two detectors differ."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from cascadebench.metrics.coco.rules import AP_AT_IOU
from cascadebench.report.data.study_results import StudyResults
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
from cascadebench.uncertainty.crossings import CROSSING, crossings
from cascadebench.uncertainty.curves import IOU_RANGES, over_ranges
from cascadebench.uncertainty.gaps import (
    Curve,
    Gap,
    baselines_of,
    coefficients,
    gap_differences,
    gaps_by_seed,
    values_of,
)
from cascadebench.uncertainty.intervals import Ends

Curves = dict[Curve, np.ndarray]


def _curves(results: StudyResults) -> Curves:
    """AP by IoU of every test stage of every run that has them."""
    curves = {}
    for (run, stage), row in results.rows("ap", "test_stage").items():
        values = np.array([row[name] for name in AP_AT_IOU])
        if np.isfinite(values).all():
            curves[Curve(run, stage)] = values
    return curves


def _measured(by_seed: Mapping[int, Gap], curves: Curves) -> list[Gap]:
    """The gaps whose curves exist."""
    return [gap for gap in by_seed.values() if coefficients(gap).keys() <= curves.keys()]


def _row(name: str, about: str, gaps: list[Gap], curves: Curves, interval: Callable[[str], Ends | None]) -> Row:
    """Row of a gap; `interval` gives the interval of a quantity of it."""
    by_iou = np.mean([values_of(gap, curves) for gap in gaps], axis=0)
    cells = [
        Cell(signed_points(float(mean)).text or points(None), from_to(interval(quantity)))
        for mean, quantity in zip(over_ranges(by_iou), IOU_RANGES, strict=True)
    ]
    return Row(Cell(name.replace(" - ", " − "), note(about)), (*cells, _crossing(by_iou, interval(CROSSING))))


def _crossing(mean: np.ndarray, interval: Ends | None) -> Cell:
    """Where the mean over the seeds changes sign, with an interval if it does so once, and to which side."""
    ious = crossings(mean)
    ious = ious[np.isfinite(ious)]
    if not len(ious):
        return Cell(ABSENT)
    first_is_better = mean[mean != 0][-1] > 0
    side = "first is better above" if first_is_better else "first is worse above"
    once = len(ious) == 1
    ends = note("{:.3f} to {:.3f}".format(*interval)) if interval and once else ()
    sides = note(side if once else f"crosses {len(ious)} times; {side} the last")
    return Cell(", ".join(f"{iou:.3f}" for iou in ious), ends + sides)


def gap_range_table(results: StudyResults) -> Table:
    """Every gap over every range, and the differences of the gaps of each later cascade and the first one."""
    curves, baselines, groups = _curves(results), baselines_of(results.study.runs, results.baseline), []
    for title, detectors in results.panels():
        gaps = [(one, gaps_by_seed((record.run for record in one.runs), baselines)) for one in detectors]
        rows = [
            _row(name, detector.label, measured, curves, partial(results.interval, detector, gap=name))
            for detector, by_name in gaps
            for name, by_seed in by_name.items()
            if (measured := _measured(by_seed, curves))
        ]
        groups.append(Group(title, tuple(rows)))
        cascades = [(one, by_name) for one, by_name in gaps if one.runs[0].run.variant.stages > 1]
        first, gaps_of_first = cascades[0] if cascades else (None, {})
        rows = [
            _row(
                name,
                f"{later.label} − {first.label}",
                measured,
                curves,
                partial(results.interval, later, gap=f"({name}) - ({name} of {first.label})"),
            )
            for later, by_name in cascades[1:]
            for name, by_seed in by_name.items()
            if (measured := _measured(gap_differences(by_seed, gaps_of_first.get(name, {})), curves))
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
            " Under a value its 95% interval, paired over images (and over seeds, if several); a claim about the same "
            "gap has the same. "
            "Under a crossing there is none if fewer than 95% of the resamples cross exactly once."
        )
    return Table("gap-ranges", caption, tuple(columns), tuple(groups))
