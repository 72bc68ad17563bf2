"""Charts of the diagnostics that come from detections: other RoIs and proposals, scores, kinds of errors."""

import altair as alt
import numpy as np
import pandas as pd

from cascadebench.diagnostics.error_kinds import KINDS
from cascadebench.diagnostics.score_quality import SCORE_BINS
from cascadebench.metrics.coco.rules import IOUS
from cascadebench.report.data import diagnostic_values as values
from cascadebench.report.data.study_results import Detector, StudyResults
from cascadebench.report.parts.charts import Encodings, Figure, panel
from cascadebench.report.sections.diagnostic_charts import STAGES, lines, root_share, rounded
from cascadebench.uncertainty.gaps import stage_label


def quality_figure(results: StudyResults) -> Figure:
    """The quality matrix as a heat table, a panel per detector."""
    panels = []
    found = list(values.qualities(results))
    every = [100 * ap for _, _, table in found for ap in table[list(IOUS)].mean(axis=1)]
    ends = [min(every, default=0), max(every, default=1)]
    for title, _, table in found:
        rows = [
            {"head": row["head"], "stage": row["stage"], "value": 100 * row[list(IOUS)].mean()}
            for _, row in table.iterrows()
        ]
        data = rounded(rows)
        base = alt.Chart(data).encode(
            x=alt.X("stage:O", title="RoIs of stage", axis=alt.Axis(labelAngle=0)), y=alt.Y("head:O", title="Head")
        )
        color = alt.Color("value:Q", scale=alt.Scale(scheme="blues", domain=ends), legend=None)
        text = alt.condition(alt.datum.value > sum(ends) / 2, alt.value("#ffffff"), alt.value("#1c2127"))
        tooltip = [
            alt.Tooltip("head:O", title="Head"),
            alt.Tooltip("stage:O", title="RoIs of stage"),
            alt.Tooltip("value:Q", title="AP × 100", format=".1f"),
        ]
        cells = base.mark_rect().encode(color=color, tooltip=tooltip)
        numbers = base.mark_text(fontSize=13).encode(text=alt.Text("value:Q", format=".1f"), color=text)
        description = f"{title}: AP times 100 of every head on the RoIs of every stage, as a shaded table."
        panels.append(panel(f"quality-{len(panels) + 1}", title, description, alt.layer(cells, numbers), height=140))
    caption = "AP × 100. From left to right RoIs of later stages, from top to bottom later heads."
    return Figure("quality", caption, "quality-values", tuple(panels))


def _ap_over_iou(data: pd.DataFrame, encodings: Encodings, detail: str, tables: list[pd.DataFrame]) -> alt.LayerChart:
    """AP by IoU threshold; one scale for the panels of a figure, which show `tables`."""
    highest = 100 * max(float(np.nanmax(table[list(IOUS)].to_numpy())) for table in tables)
    x = alt.X(
        "iou:Q",
        scale=alt.Scale(domain=[0.48, 0.97], nice=False),
        title="IoU threshold",
        axis=alt.Axis(values=[0.5, 0.6, 0.7, 0.8, 0.9], format=".1f"),
    )
    return lines(
        data,
        encodings,
        x,
        alt.Y("value:Q", title="AP × 100", scale=alt.Scale(domain=[0, max(highest, 1)], nice=True)),
        detail=detail,
    )


def quality_iou_figure(results: StudyResults) -> Figure:
    """AP by IoU of every head on the RoIs of every stage, a panel per detector and head."""
    panels, found = [], list(values.qualities(results))
    for title, _, table in found:
        for head, rows in table.groupby("head"):
            data = rounded(
                [
                    {"label": f"stage {row['stage']:.0f}", "iou": iou, "value": 100 * row[iou]}
                    for _, row in rows.iterrows()
                    for iou in IOUS
                ]
            )
            chart = _ap_over_iou(data, Encodings(STAGES, data["label"]), "RoIs of", [one for _, _, one in found])
            description = f"{title}: AP times 100 by IoU threshold of head {head} on the RoIs of each stage."
            panels.append(
                panel(f"quality-iou-{len(panels) + 1}", f"{title}: head {head}", description, chart, height=200)
            )
    caption = "One line for the RoIs of each stage."
    return Figure("quality-iou", caption, "quality-values", tuple(panels))


def proposals_figure(results: StudyResults) -> Figure:
    """AP by IoU with a detector's own and with other proposals, a panel per detector."""
    panels = []
    found = list(values.other_proposals(results))
    names = list(dict.fromkeys(name for _, _, table in found for name in table.index))
    for title, _, table in found:
        rows = [
            {"label": name, "iou": iou, "value": 100 * table.loc[name, iou]} for name in table.index for iou in IOUS
        ]
        data = rounded([row for row in rows if np.isfinite(row["value"])])
        dashes = [[6, 3] if name != "own proposals" else [1, 0] for name in names]
        chart = _ap_over_iou(data, Encodings(names, data["label"], dashes), "Proposals", [one for _, _, one in found])
        description = f"{title}: AP times 100 by IoU threshold with its own proposals and, dashed, with other ones."
        panels.append(panel(f"proposals-{len(panels) + 1}", title, description, chart, height=220))
    caption = "Solid: its own proposals. Dashed: other ones, with the same weights."
    return Figure("proposals", caption, "proposals-values", tuple(panels))


def drawn_stages(detector: Detector) -> list[str]:
    """Test stages that stand for the stages, and the headline: a chart of all would not be read."""
    variant = detector.runs[0].run.variant
    stages = [stage_label(stage, variant.classifiers) for stage in range(1, variant.stages + 1)]
    return list(dict.fromkeys([*stages, variant.headline]))


def score_figure(results: StudyResults) -> Figure:
    """Distribution of the scores of loose detections, a panel per detector."""
    panels = []
    found = list(values.scores(results))
    labels = list(dict.fromkeys(label for _, detector, _ in found for label in drawn_stages(detector)))
    for title, detector, table in found:
        rows = [
            {"label": label, "score": (place + 0.5) / SCORE_BINS, "value": 100 * count / table.loc[label, "count"]}
            for label in drawn_stages(detector)
            if label in table.index and table.loc[label, "count"]
            for place, count in enumerate(table.loc[label, "score_histogram"])
        ]
        if rows:
            data = rounded(rows)
            x = alt.X("score:Q", title="Score", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".1f"))
            y = root_share("Share of these detections, %")
            chart = lines(data, Encodings(["", *labels], data["label"]), x, y, points=False, detail="Test stage")
            description = f"{title}: scores of detections whose IoU with an object of their class is from 0.50 to 0.75."
            panels.append(panel(f"scores-{len(panels) + 1}", title, description, chart, height=200))
    caption = "Detections with an IoU from 0.50 to 0.75; bins of 0.05, root scale. The stages and the headline alone."
    return Figure("scores", caption, "score-values", tuple(panels), whole=False)


def error_figure(results: StudyResults) -> Figure:
    """What each kind of error costs at the headline test stage, a panel per framework."""
    rows = [
        {
            "panel": title.removesuffix(f": {detector.label}"),
            "label": detector.label,
            "kind": row.kind,
            "value": 100 * row.cost,
        }
        for title, detector, table in values.errors(results)
        for row in table[table["test_stage"] == detector.headline].itertuples()
    ]
    panels = []
    if rows:
        data = rounded(rows)
        for title, found in data.groupby("panel", sort=False):
            encodings = Encodings(results.labels, found["label"])
            chart = (
                alt.Chart(found)
                .mark_bar()
                .encode(
                    x=alt.X("kind:N", sort=list(KINDS), title=None, axis=alt.Axis(labelAngle=0, labelLimit=90)),
                    xOffset=alt.XOffset("label:N", sort=results.labels),
                    y=alt.Y("value:Q", title="Cost in AP50 × 100"),
                    color=encodings.color,
                    tooltip=[
                        alt.Tooltip("label:N", title="Detector"),
                        alt.Tooltip("kind:N", title="Kind"),
                        alt.Tooltip("value:Q", title="Cost", format=".2f"),
                    ],
                )
            )
            description = f"{title}: AP at IoU 0.5 that each kind of error costs, one bar per detector."
            panels.append(panel(f"errors-{len(panels) + 1}", title, description, chart, height=220))
    caption = "Headline test stage: by how much AP50 would rise if this kind of error alone were mended."
    return Figure("errors", caption, "error-values", tuple(panels))
