"""Test stages: every pair of boxes and scores that a trained cascade offers."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from cascadebench.metrics.coco.rules import AP_AT_IOU
from cascadebench.report.data.study_results import DetectorRecord, Rows, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Group, Row, Table, ap_columns, note
from cascadebench.report.parts.charts import Drawing, Figure, figure, shaded_table, tooltips
from cascadebench.report.parts.detector_rows import mean_over_seeds, range_caption, scores_of
from cascadebench.report.parts.section import Section

MEASURES = ("AP", "AP50", "AP75", "AP90")


def _cells(detector: DetectorRecord, scores: Rows) -> pd.DataFrame:
    """AP of every test stage with one classifier: measure, boxes, scores, value, and its place among its measure's."""
    rows = [
        {"measure": measure, "boxes": stage.boxes, "scores": stage.classifiers[0], "value": round(100 * mean, 4)}
        for stage in detector.runs[0].run.variant.test_stages
        for measure in (MEASURES if len(stage.classifiers) == 1 else ())
        if (mean := mean_over_seeds(detector, scores, measure, stage.label)) is not None
    ]
    data = pd.DataFrame(rows)
    if len(data):
        by_measure = data.groupby("measure")["value"]
        low, high = by_measure.transform("min"), by_measure.transform("max")
        data["shade"] = ((data["value"] - low) / (high - low).where(high > low, 1)).round(3)
    return data


def stage_matrix_figure(results: StudyResults) -> Figure:
    """AP, AP50, AP75 and AP90 by boxes and scores, side by side, a panel per detector with several test stages."""
    caption = (
        "AP × 100 by boxes and scores. Within each of the four blocks the lowest value is light and the highest dark; "
        "blocks are not to be compared by shade."
    )
    scores = results.rows("ap", "test_stage")
    matrices = ((title, _cells(detector, scores)) for title, detector in results.titled_detectors())
    drawings = (_matrix(title, data) for title, data in matrices if len(data) > len(MEASURES))
    return figure("stage-matrix", caption, "stages", drawings)


def _matrix(title: str, data: pd.DataFrame) -> Drawing:
    """One row of blocks, each a measure; an empty column stands between two."""
    classifiers = sorted(set(data["scores"]))
    middle = classifiers[(len(classifiers) - 1) // 2]
    columns = []
    for measure in MEASURES:
        columns += [f"{measure}:{scores}" for scores in classifiers] + [f"{measure}:"]
    data = data.assign(place=[f"{row.measure}:{row.scores}" for row in data.itertuples()])
    parts = "split(datum.value, ':')"
    axis = alt.Axis(
        labelAngle=0,
        labelExpr=f"[{parts}[1], {parts}[1] == '{middle}' ? {parts}[0] : '']",
        labelLineHeight=14,
        labelOverlap=False,
    )
    base = alt.Chart(data).encode(
        x=alt.X(
            "place:N", scale=alt.Scale(domain=columns[:-1], paddingInner=0.04), title="Scores of classifier", axis=axis
        ),
        y=alt.Y("boxes:O", title="Boxes of regressor"),
    )
    tooltip = tooltips(
        ("measure:N", "Measure"),
        ("boxes:O", "Boxes of regressor"),
        ("scores:O", "Scores of classifier"),
        ("value:Q", "× 100", ".1f"),
    )
    chart = shaded_table(base, tooltip, "shade", (0, 1), dark=0.55, size=11)
    description = (
        f"{title}: AP, AP50, AP75 and AP90 times 100 with the boxes of each regressor and the scores of each "
        "classifier, as shaded tables."
    )
    return Drawing(title, description, chart, height=36 * data["boxes"].nunique() + 10)


def stage_table(results: StudyResults) -> Table:
    """AP by IoU of every test stage of the detectors with several."""
    scores = results.rows("ap", "test_stage")
    groups = [
        Group(f"{title}: {detector.label}", tuple(rows))
        for title, detectors in results.panels_with_imported()
        for detector in detectors
        if len(rows := list(_stage_rows(detector, scores))) > 1
    ]
    columns = (Column("Test stage", kind="text"), Column("AP"), *ap_columns())
    caption = "AP × 100 of every test stage; all of them come from the same weights and the same pass over the images."
    return Table("stages", caption + range_caption(results), columns, tuple(groups))


def _stage_rows(detector: DetectorRecord, scores: Rows) -> Iterator[Row]:
    runs = {record.id for record in detector.runs}
    evaluated = {stage for run, stage in scores if run in runs}
    expected = [stage.label for stage in detector.runs[0].run.variant.test_stages]
    for stage in [stage for stage in expected if stage in evaluated] + sorted(evaluated - set(expected)):
        head = Cell(stage, note("headline" if stage == detector.headline else ""))
        yield Row(head, tuple(scores_of(detector, None, scores, name, stage) for name in ("AP", *AP_AT_IOU)))


SECTION = Section(
    "test-stages",
    "Test stages",
    lambda results: {"matrix": stage_matrix_figure(results), "stages": stage_table(results)},
)
