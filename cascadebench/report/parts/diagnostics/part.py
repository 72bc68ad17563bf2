"""What the parts of the section of diagnostics share. Counts are pooled over seeds."""

from collections.abc import Callable, Iterable, Mapping

import altair as alt
import numpy as np
import pandas as pd

from cascadebench.metrics.coco.rules import IOUS
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Group, Row, Table, ap_columns, number_cell
from cascadebench.report.parts.charts import Encodings, iou_axis, tooltips

Values = list[tuple[str, DetectorRecord, pd.DataFrame]]
"""Detectors under their titles, and their values."""
STAGES = ["proposals", *(f"stage {stage}" for stage in range(1, 5))]
"""Labels of lines that stand for stages; the grey of the first is left to proposals."""


def values(of_detector: Callable[[DetectorRecord], pd.DataFrame | None], results: StudyResults) -> Values:
    """Values of all detectors that have some."""
    tables = ((title, detector, of_detector(detector)) for title, detector in results.titled_detectors())
    return [(title, detector, table) for title, detector, table in tables if table is not None and len(table)]


def groups(known: Values, rows: Callable[[DetectorRecord, pd.DataFrame], Iterable[Row]]) -> tuple[Group, ...]:
    """Rows of every detector under its title."""
    return tuple(Group(title, tuple(rows(detector, table))) for title, detector, table in known)


def ap_table(identifier: str, caption: str, head: str, known: Values) -> Table:
    """AP, its mean first, of tables with a column for every IoU threshold."""

    def rows(_: DetectorRecord, table: pd.DataFrame) -> Iterable[Row]:
        for label, row in table.iterrows():
            by_iou = row[list(IOUS)].astype(float)
            ap = (by_iou.mean(skipna=False), *by_iou)
            yield Row(Cell(label), tuple(number_cell(value, 100) for value in ap))

    columns = (Column(head, kind="text"), Column("AP"), *ap_columns())
    return Table(identifier, caption, columns, groups(known, rows))


def rounded(rows: Iterable[Mapping]) -> pd.DataFrame:
    """Four digits are more than a chart shows, and keep the page small."""
    return pd.DataFrame(rows).assign(value=lambda data: [float(f"{value:.4g}") for value in data["value"]])


def lines(
    rows: Iterable[Mapping] | pd.DataFrame,
    labels: list[str],
    x: alt.X,
    y: alt.Y,
    *,
    points: bool = True,
    detail: str = "Line",
    dashes: list[list[int]] | None = None,
) -> alt.LayerChart:
    """Lines of `label`, one of `labels`, through `x` and `value`."""
    data = rounded(rows)
    encodings = Encodings(labels, data["label"], dashes)
    tooltip = tooltips(("label:N", detail), (x.shorthand, x["title"], ".3~f"), ("value:Q", y["title"], ".4~g"))
    base = alt.Chart(data).encode(x=x, y=y, color=encodings.color, tooltip=tooltip)
    line = base.mark_line().encode(strokeDash=encodings.dash)
    if not points:
        return alt.layer(line)
    return alt.layer(line, base.mark_point(filled=True, size=36, opacity=1).encode(shape=encodings.shape))


def over_iou(title: str, low: float = 0.0) -> alt.X:
    """Axis of IoU from `low` to 1."""
    ticks = [tenth / 10 for tenth in range(round(10 * low), 11)]
    axis = alt.Axis(format=".1f", values=ticks)
    return alt.X("iou:Q", title=title, scale=alt.Scale(domain=[low, 1], nice=False), axis=axis)


def root_share(title: str) -> alt.Y:
    """Axis of shares in percent; a square root lets small ones be seen, and has a place for zero."""
    axis = alt.Axis(values=[0, 1, 5, 10, 20, 40, 60, 80, 100])
    return alt.Y("value:Q", title=title, scale=alt.Scale(type="sqrt"), axis=axis)


def ap_lines(
    rows: Iterable[Mapping], labels: list[str], detail: str, known: Values, dashes: list[list[int]] | None = None
) -> alt.LayerChart:
    """AP by IoU threshold; one scale for all panels of a figure, which show `known`."""
    highest = 100 * max(float(np.nanmax(table[list(IOUS)].to_numpy())) for _, _, table in known)
    y = alt.Y("value:Q", title="AP × 100", scale=alt.Scale(domain=[0, max(highest, 1)], nice=True))
    return lines(rows, labels, iou_axis(), y, detail=detail, dashes=dashes)
