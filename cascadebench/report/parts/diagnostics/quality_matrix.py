"""Heads and RoIs of different quality."""

import altair as alt
import pandas as pd

from cascadebench.diagnostics.observations import QualityStage
from cascadebench.metrics.coco.rules import IOUS
from cascadebench.report.data.diagnostic_files import ap_by_iou
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Table
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure, shaded_table
from cascadebench.report.parts.diagnostics.part import STAGES, Part, Values, ap_lines, ap_table, rounded, values


def _matrix(detector: DetectorRecord) -> pd.DataFrame | None:
    """AP of every cell of the quality matrix: head, stage, and a column for every IoU threshold."""
    tables = [run.tables["quality_ap"] for run in detector.diagnostics if "quality_ap" in run.tables]
    if not tables:
        return None
    table = ap_by_iou(tables)
    parsed = {label: cell for label in table.index if (cell := _cell(label))}
    heads, stages = [cell.head for cell in parsed.values()], [cell.stage for cell in parsed.values()]
    return table.loc[list(parsed)].assign(head=heads, stage=stages).sort_values(["head", "stage"])


def _cell(label: str) -> QualityStage | None:
    try:
        return QualityStage.parse(label)
    except ValueError:
        return None


def quality_figure(known: Values) -> Figure:
    """The quality matrix as a heat table, a panel per detector."""
    every = [100 * ap for _, _, table in known for ap in table[list(IOUS)].mean(axis=1)]
    ends = [min(every, default=0), max(every, default=1)]
    tooltip = [
        alt.Tooltip("head:O", title="Head"),
        alt.Tooltip("stage:O", title="RoIs of stage"),
        alt.Tooltip("value:Q", title="AP × 100", format=".1f"),
    ]
    drawings = []
    for title, _, table in known:
        rows = [
            {"head": row["head"], "stage": row["stage"], "value": 100 * row[list(IOUS)].mean()}
            for _, row in table.iterrows()
        ]
        base = alt.Chart(rounded(rows)).encode(
            x=alt.X("stage:O", title="RoIs of stage", axis=alt.Axis(labelAngle=0)), y=alt.Y("head:O", title="Head")
        )
        chart = shaded_table(base, tooltip, "value", ends, dark=sum(ends) / 2, size=13)
        description = f"{title}: AP times 100 of every head on the RoIs of every stage, as a shaded table."
        drawings.append(Drawing(title, description, chart, height=140))
    caption = "AP × 100. From left to right RoIs of later stages, from top to bottom later heads."
    return figure("quality", caption, "quality-values", drawings)


def quality_iou_figure(known: Values) -> Figure:
    """AP by IoU of every head on the RoIs of every stage, a panel per detector and head."""
    drawings = []
    for title, _, table in known:
        for head, rows in table.groupby("head"):
            data = rounded(
                [
                    {"label": f"stage {row['stage']:.0f}", "iou": iou, "value": 100 * row[iou]}
                    for _, row in rows.iterrows()
                    for iou in IOUS
                ]
            )
            chart = ap_lines(data, Encodings(STAGES, data["label"]), "RoIs of", known)
            description = f"{title}: AP times 100 by IoU threshold of head {head} on the RoIs of each stage."
            drawings.append(Drawing(f"{title}: head {head}", description, chart, height=200))
    return figure("quality-iou", "One line for the RoIs of each stage.", "quality-values", drawings)


def build(results: StudyResults) -> tuple[Figure | Table, ...]:
    """AP as a matrix, by IoU, and in numbers."""
    known = values(results, _matrix)
    caption = "AP × 100 of every head, classifier and regressor, on the RoIs that enter every stage; mean over seeds."
    return quality_figure(known), quality_iou_figure(known), ap_table("quality-values", caption, "Cell", known)


PART = Part(
    "quality-matrix",
    "Heads and RoIs of different quality",
    "quality_ap",
    "Every head on the RoIs of every stage, from the same weights (Cascade R-CNN, Fig. 8): on the diagonal each "
    "head has the RoIs that it was trained on.",
    "The heads were trained together, so a head that suffers from other RoIs may still owe its trunk to them.",
    build,
)
