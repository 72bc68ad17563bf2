"""Gaps: where a cascade wins and where it loses."""

import math
import re
from collections.abc import Iterator
from typing import Any

from cascadebench.metrics.coco.rules import IOUS
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.caveats import range_caption
from cascadebench.report.parts.cells import Cell, Column, Row, Spread, Table, ap_columns, note, points, signed_points
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure
from cascadebench.report.parts.detector_rows import detector_groups
from cascadebench.report.parts.gap_ranges import gap_range_table
from cascadebench.report.parts.iou_curves import (
    band_caption,
    common_domain,
    curves,
    over_seeds,
    seed_choices,
    shown_by_title,
    with_intervals,
)
from cascadebench.report.parts.section import Section, has_runs

_LAST_STAGE_GAP = re.compile(r"stage (\d+) - (?:baseline|stage (\d+))")


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
