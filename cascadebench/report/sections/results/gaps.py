"""Gaps: where a cascade wins and where it loses, by IoU, over ranges of it, and where two curves cross."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from cascadebench.metrics.coco.rules import AP_AT_IOU, IOUS
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import (
    ABSENT,
    Cell,
    Column,
    Group,
    Row,
    Spread,
    Table,
    ap_columns,
    from_to,
    note,
    points,
    signed_points,
)
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure
from cascadebench.report.parts.detector_rows import detector_groups, range_caption
from cascadebench.report.parts.section import Section, has_runs
from cascadebench.report.sections.results.curves import (
    band_caption,
    common_domain,
    curves,
    over_seeds,
    seed_choices,
    shown_by_title,
    with_intervals,
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

_LAST_STAGE_GAP = re.compile(r"stage (\d+) - (?:baseline|stage (\d+))")
Curves = dict[Curve, np.ndarray]


def _ap_curves(results: StudyResults) -> Curves:
    """AP by IoU of every test stage of every run that has them."""
    curves = {}
    for (run, stage), row in results.rows("ap", "test_stage").items():
        values = np.array([row[name] for name in AP_AT_IOU])
        if np.isfinite(values).all():
            curves[Curve(run, stage)] = values
    return curves


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
    curves, baselines, groups = _ap_curves(results), baselines_of(results.study.runs, results.baseline), []

    def rows(detector: DetectorRecord, gaps: Mapping[str, Mapping[int, Gap]], first: str = "") -> Iterator[Row]:
        about = f"{detector.label} − {first}" if first else detector.label
        for name, by_seed in gaps.items():
            if measured := [gap for gap in by_seed.values() if coefficients(gap).keys() <= curves.keys()]:
                gap = f"({name}) - ({name} of {first})" if first else name
                yield _row(name, about, measured, curves, partial(results.interval, detector, gap=gap))

    for title, detectors in results.panels():
        gaps = [(one, gaps_by_seed((record.run for record in one.runs), baselines)) for one in detectors]
        groups.append(Group(title, tuple(row for one, by_name in gaps for row in rows(one, by_name))))
        cascades = [(one, by_name) for one, by_name in gaps if one.runs[0].run.variant.stages > 1]
        first, gaps_of_first = cascades[0] if cascades else (None, {})
        between = []
        for later, by_name in cascades[1:]:
            differences = {name: gap_differences(gap, gaps_of_first.get(name, {})) for name, gap in by_name.items()}
            between += rows(later, differences, first.label)
        words = f"{title}: gaps of one cascade minus the same gaps of {first.label}" if between else ""
        groups.append(Group(words, tuple(between)))
    ranges = (Column(name.replace("-", "–"), group="mean over IoU") for name in IOU_RANGES)
    columns = [Column("Gap", kind="text"), *ranges, Column("Crossing at IoU")]
    caption = (
        "Gaps of AP × 100, averaged over ranges of IoU thresholds and over seeds, and the IoU at which the two curves "
        "cross, by linear interpolation between thresholds; a dash: one of them is above at every threshold."
    )
    if len(results.tables["intervals"]):
        caption += (
            " Under a value its 95% interval, paired over images (and over seeds, if several); a claim about the same "
            "gap has the same. "
            "Under a crossing there is none if fewer than 95% of the resamples cross exactly once. "
            + results.coverage_warning(gaps_alone=True)
        ).rstrip()
    return Table("gap-ranges", caption, tuple(columns), tuple(groups))


def _gap_title(results: StudyResults, gap: str, stages: int) -> str | None:
    """Title of a gap that is drawn: the last stage against the baseline and against the stage before; else None."""
    match = _LAST_STAGE_GAP.fullmatch(gap)
    if not match or int(match[1]) != stages or (match[2] and int(match[2]) != stages - 1):
        return None
    return gap.replace(" - ", " − ").replace("baseline", results.baseline)


def gap_figure(results: StudyResults) -> Figure:
    """Gaps of the last stage at every IoU threshold, one panel per gap and framework."""
    gaps = {str(run): rows.to_dict("records") for run, rows in results.tables["gaps"].groupby("run", sort=False)}
    rows, names = [], {}
    for title, detectors in results.panels():
        for record in (record for detector in detectors for record in detector.runs):
            for row in gaps.get(record.id, ()):
                if facet := _gap_title(results, row["gap"], record.run.variant.stages):
                    about = {"panel": title, "facet": facet, "label": record.label, "seed": str(record.run.seed)}
                    rows.append(about | {"iou": row["iou"], "value": 100 * row["gap_ap"]})
                    names[facet] = row["gap"]
    data, shows = with_intervals(over_seeds(rows), results, names), shown_by_title(results)
    encodings = Encodings(results.labels, data["label"])
    drawings = (
        Drawing(
            f"{title}: {facet}",
            f"{title}, {facet}: difference of AP times 100 at IoU thresholds from 0.50 to 0.95.",
            curves(part, encodings, "Difference of AP × 100", common_domain(data), zero=True),
            height=220,
            shows=shows[title] | {"Gap": facet},
        )
        # Sorted by gap, the frameworks stand beside each other.
        for (facet, title), part in sorted(data.groupby(["facet", "panel"], sort=False), key=lambda item: item[0][0])
    )
    caption = "Above the zero line the last stage is better. The scale is the same in all panels."
    return figure("gaps-by-iou", caption + band_caption(data), "gap-values", drawings, seeds=seed_choices(results))


def gap_table(results: StudyResults) -> Table:
    """Every gap at every IoU threshold."""
    by_gap = {
        (run, gap, round(iou, 2)): row
        for (run, gap, iou), row in results.rows("gaps", "gap", "iou").items()
        if not math.isnan(iou)
    }

    def rows(detector: DetectorRecord, _: DetectorRecord | None) -> Iterator[Row]:
        runs = {record.id for record in detector.runs}
        for gap in dict.fromkeys(gap for run, gap, _ in by_gap if run in runs):
            spreads = (Spread.of(detector.by_seed(by_gap, "gap_ap", gap, iou)) for iou in IOUS)
            head = Cell(gap.replace(" - ", " − "), note(detector.label))
            yield Row(head, tuple(_gap_cell(spread) for spread in spreads))

    columns = (Column("Gap", kind="text"), *ap_columns())
    caption = "Differences of AP × 100 at each IoU threshold; above zero, the first of the two is better."
    groups = detector_groups(results.panels(), rows)
    return Table("gap-values", caption + range_caption(results), columns, groups)


def _gap_cell(spread: Spread) -> Cell:
    mean, ends = signed_points(spread.mean), spread.range_line(100, 1)
    return Cell(mean.text or points(None), (ends,) if ends.text else (), value=mean.value)


def build(results: StudyResults) -> dict[str, Any]:
    """Curves of the last stage's gaps; tables of all gaps, by threshold and by range."""
    return {"curves": gap_figure(results), "by_iou": gap_table(results), "by_range": gap_range_table(results)}


SECTION = Section("gaps", "Gaps", build, needs=has_runs)
