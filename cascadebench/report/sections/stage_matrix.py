"""The matrix of test stages: boxes of regressor i with scores of classifier j, shaded."""

from typing import Any

import altair as alt
import pandas as pd

from cascadebench.detectors.inference_stages import TestStage
from cascadebench.report.data.study_results import Detector, StudyResults
from cascadebench.report.parts.cells import Spread
from cascadebench.report.parts.charts import Figure, Panel, panel

MEASURES = ("AP", "AP50", "AP75", "AP90")


def _cells(results: StudyResults, detector: Detector) -> pd.DataFrame:
    """AP of every test stage with one classifier: measure, boxes, scores, value, and its place among its measure's."""
    scores, rows = results.rows("ap", "test_stage"), []
    for stage in detector.runs[0].run.variant.test_stages:
        for measure in MEASURES if len(stage.classifiers) == 1 else ():
            mean = Spread.of(detector.by_seed(scores, measure, stage.label)).mean
            if mean is not None:
                rows.append(_row(stage, measure, 100 * mean))
    data = pd.DataFrame(rows)
    if len(data):
        by_measure = data.groupby("measure")["value"]
        low, high = by_measure.transform("min"), by_measure.transform("max")
        data["shade"] = ((data["value"] - low) / (high - low).where(high > low, 1)).round(3)
    return data


def _row(stage: TestStage, measure: str, value: float) -> dict[str, Any]:
    scores = stage.classifiers[0]
    return {"measure": measure, "boxes": stage.boxes, "scores": scores, "value": round(value, 4)}


def stage_matrix_figure(results: StudyResults) -> Figure:
    """AP, AP50, AP75 and AP90 by boxes and scores, side by side, a panel per detector with several test stages."""
    panels = []
    for title, detector in results.titled_detectors():
        data = _cells(results, detector)
        if len(data) and len(data) > len(MEASURES):
            panels.append(_panel(f"stage-matrix-{len(panels) + 1}", title, data))
    caption = (
        "AP × 100 by boxes and scores. Within each of the four blocks the lowest value is light and the highest dark; "
        "blocks are not to be compared by shade."
    )
    return Figure("stage-matrix", caption, "stages", tuple(panels))


def _panel(identifier: str, title: str, data: pd.DataFrame) -> Panel:
    """One row of blocks, each a measure; an empty column stands between two."""
    classifiers = sorted(set(data["scores"]))
    middle = classifiers[(len(classifiers) - 1) // 2]
    places = []
    for measure in MEASURES:
        places += [f"{measure}:{scores}" for scores in classifiers] + [f"{measure}:"]
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
            "place:N", scale=alt.Scale(domain=places[:-1], paddingInner=0.04), title="Scores of classifier", axis=axis
        ),
        y=alt.Y("boxes:O", title="Boxes of regressor"),
    )
    tooltip = [
        alt.Tooltip("measure:N", title="Measure"),
        alt.Tooltip("boxes:O", title="Boxes of regressor"),
        alt.Tooltip("scores:O", title="Scores of classifier"),
        alt.Tooltip("value:Q", title="× 100", format=".1f"),
    ]
    color = alt.Color("shade:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None)
    text = alt.condition(alt.datum.shade > 0.55, alt.value("#ffffff"), alt.value("#1c2127"))
    cells = base.mark_rect().encode(color=color, tooltip=tooltip)
    numbers = base.mark_text(fontSize=11).encode(text=alt.Text("value:Q", format=".1f"), color=text)
    description = (
        f"{title}: AP, AP50, AP75 and AP90 times 100 with the boxes of each regressor and the scores of each "
        "classifier, as shaded tables."
    )
    height = 36 * data["boxes"].nunique() + 10
    return panel(identifier, title, description, alt.layer(cells, numbers), height=height)
