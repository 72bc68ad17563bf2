"""Kinds of errors, and what each costs."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from cascadebench.diagnostics.error_kinds import KINDS
from cascadebench.report.data.diagnostic_files import pooled
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Line, Row, Table, note, number, number_cell
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure
from cascadebench.report.parts.diagnostics.part import Part, Values, groups, rounded, values


def _kinds(detector: DetectorRecord) -> pd.DataFrame | None:
    """Kinds of errors: test_stage, kind, count, ap50 and cost; means over seeds."""
    table = pooled(detector.diagnostics, "error_kinds")
    if table is None:
        return None
    return table.groupby(["test_stage", "kind"], sort=False)[["count", "ap50", "cost"]].mean().reset_index()


def error_figure(results: StudyResults, known: Values) -> Figure:
    """What each kind of error costs at the headline test stage, a panel per framework."""
    rows = [
        {
            "panel": title.removesuffix(f": {detector.label}"),
            "label": detector.label,
            "kind": row.kind,
            "value": 100 * row.cost,
        }
        for title, detector, table in known
        for row in table[table["test_stage"] == detector.headline].itertuples()
    ]
    drawings = []
    for title, data in rounded(rows).groupby("panel", sort=False) if rows else ():
        chart = (
            alt.Chart(data)
            .mark_bar()
            .encode(
                x=alt.X("kind:N", sort=list(KINDS), title=None, axis=alt.Axis(labelAngle=0, labelLimit=90)),
                xOffset=alt.XOffset("label:N", sort=results.labels),
                y=alt.Y("value:Q", title="Cost in AP50 × 100"),
                color=Encodings(results.labels, data["label"]).color,
                tooltip=[
                    alt.Tooltip("label:N", title="Detector"),
                    alt.Tooltip("kind:N", title="Kind"),
                    alt.Tooltip("value:Q", title="Cost", format=".2f"),
                ],
            )
        )
        description = f"{title}: AP at IoU 0.5 that each kind of error costs, one bar per detector."
        drawings.append(Drawing(title, description, chart, height=220))
    caption = "Headline test stage: by how much AP50 would rise if this kind of error alone were mended."
    return figure("errors", caption, "error-values", drawings)


def error_table(known: Values) -> Table:
    """Cost and number of every kind of error at every test stage."""

    def rows(detector: DetectorRecord, table: pd.DataFrame) -> Iterator[Row]:
        for label, part in table.groupby("test_stage", sort=False):
            by_kind = part.set_index("kind")
            notes = note("headline" if label == detector.headline else "")
            cells = [number_cell(part["ap50"].iloc[0], 100)]
            for kind in KINDS:
                row = by_kind.loc[kind]
                times = Line(f"{number(row['count'], digits=0)} times", "muted", "times", float(row["count"]))
                cells.append(number_cell(row["cost"], 100, notes=(times,)))
            yield Row(Cell(label, notes), tuple(cells))

    columns = [Column("Test stage", kind="text"), Column("AP", "50")]
    columns += [Column(kind.capitalize(), group="cost in AP50 × 100") for kind in KINDS]
    caption = (
        "What each kind of error costs, and how often it occurs; means over seeds. Costs do not add up: mending one "
        "kind changes what another would bring."
    )
    return Table("error-values", caption, tuple(columns), groups(known, rows))


def build(results: StudyResults) -> tuple[Figure | Table, ...]:
    """What each kind costs at the headline, and at every test stage."""
    known = values(results, _kinds)
    return error_figure(results, known), error_table(known)


PART = Part(
    "error-kinds",
    "Kinds of errors",
    "error_kinds",
    "Why detections are wrong at IoU 0.5, by the kinds of TIDE (Bolya et al., ECCV 2020): the wrong class, a "
    "loose box, both, a duplicate, background, or an object missed.",
    "Kinds depend on the thresholds 0.5 and 0.1, and on all detections down to the lowest score that a run keeps.",
    build,
)
