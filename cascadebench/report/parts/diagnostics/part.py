"""A part of the section of diagnostics, and what the charts of several parts share. Counts are pooled over seeds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from cascadebench.metrics.coco.rules import IOUS
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Group, Row, Table, ap_columns, number_cell
from cascadebench.report.parts.charts import Encodings, Figure
from cascadebench.report.parts.iou_curves import iou_axis


@dataclass(frozen=True)
class Part:
    """One diagnostic.

    Attributes
    ----------
    id, title : str
    file : str
        The diagnostic that it reads; the part appears where some run has it.
    text : str
        What it shows and what it came from.
    limits : str
        What it does not say.
    build : function
        Gives its figures and tables in the order of the page.
    """

    id: str
    title: str
    file: str
    text: str
    limits: str
    build: Callable[[StudyResults], tuple[Figure | Table, ...]]


Values = list[tuple[str, DetectorRecord, pd.DataFrame]]
"""Detectors under their titles, and their values."""


def values(results: StudyResults, of_detector: Callable[[DetectorRecord], pd.DataFrame | None]) -> Values:
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


STAGES = ["proposals", *(f"stage {stage}" for stage in range(1, 5))]
"""Labels of lines that stand for stages; the grey of the first is left to proposals."""


def rounded(rows: Sequence[dict]) -> pd.DataFrame:
    """Four digits are more than a chart shows, and keep the page small."""
    return pd.DataFrame(rows).assign(value=lambda data: [float(f"{value:.4g}") for value in data["value"]])


def lines(
    data: pd.DataFrame, encodings: Encodings, x: alt.X, y: alt.Y, points: bool = True, detail: str = "Line"
) -> alt.LayerChart:
    """Lines of `label` through `x` and `value`."""
    tooltip = [
        alt.Tooltip("label:N", title=detail),
        alt.Tooltip(f"{x.shorthand}", title=x["title"], format=".3~f"),
        alt.Tooltip("value:Q", title=y["title"], format=".4~g"),
    ]
    base = alt.Chart(data).encode(x=x, y=y, color=encodings.color, tooltip=tooltip)
    line = base.mark_line().encode(strokeDash=encodings.dash)
    if not points:
        return alt.layer(line)
    return alt.layer(line, base.mark_point(filled=True, size=36, opacity=1).encode(shape=encodings.shape))


def over_iou(title: str, low: float = 0.0) -> alt.X:
    ticks = [tenth / 10 for tenth in range(round(10 * low), 11)]
    axis = alt.Axis(format=".1f", values=ticks)
    return alt.X("iou:Q", title=title, scale=alt.Scale(domain=[low, 1], nice=False), axis=axis)


def root_share(title: str) -> alt.Y:
    """Axis of shares in percent; a square root lets small ones be seen, and has a place for zero."""
    axis = alt.Axis(values=[0, 1, 5, 10, 20, 40, 60, 80, 100])
    return alt.Y("value:Q", title=title, scale=alt.Scale(type="sqrt"), axis=axis)


def ap_lines(data: pd.DataFrame, encodings: Encodings, detail: str, known: Values) -> alt.LayerChart:
    """AP by IoU threshold; one scale for all panels of a figure, which show `known`."""
    highest = 100 * max(float(np.nanmax(table[list(IOUS)].to_numpy())) for _, _, table in known)
    scale = alt.Scale(domain=[0, max(highest, 1)], nice=True)
    return lines(data, encodings, iou_axis(), alt.Y("value:Q", title="AP × 100", scale=scale), detail=detail)
