"""Charts of the diagnostics that come from RoIs; and what the other charts of diagnostics share."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from cascadebench.diagnostics.boxes import IOU_BINS
from cascadebench.diagnostics.stage_statistics import target_edges
from cascadebench.report.data import diagnostic_values as values
from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.charts import Encodings, Figure, Panel, panel
from cascadebench.report.sections.iou_curves import iou_axis

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


def stage_iou_figure(results: StudyResults) -> Figure:
    """Distribution of IoU at the entrance of every stage, a panel per detector."""
    panels = []
    for title, _, table in values.stage_summaries(results):
        rows = [
            {"label": f"stage {row.stage}", "iou": (place + 0.5) / IOU_BINS, "value": 100 * count / max(row.rois, 1)}
            for row in table.itertuples()
            for place, count in enumerate(row.iou_histogram)
        ]
        data = rounded(rows)
        y = root_share("Share of RoIs, % (root scale)")
        chart = lines(data, Encodings(STAGES, data["label"]), over_iou("IoU with the ground truth"), y, points=False)
        description = f"{title}: share of the RoIs that enter each stage in training, by their IoU in bins of 0.05."
        panels.append(panel(f"stage-iou-{len(panels) + 1}", title, description, chart, height=200))
    caption = "Each bin is 0.05 wide. The further right the mass, the better the boxes that a stage learns from."
    return Figure("stage-iou", caption, "stage-values", tuple(panels), whole=False)


def target_figure(results: StudyResults) -> Figure:
    """Distribution of the regression targets of every stage, two panels per detector."""
    panels = []
    for title, _, table in values.stage_summaries(results):
        for pair in (("dx", "dy"), ("dw", "dh")):
            edges = target_edges(pair[0])
            rows = [
                {"label": f"stage {row.stage}", "target": centre, "value": 100 * share}
                for row in table.itertuples()
                if row.inliers
                for centre, share in zip(
                    (edges[:-1] + edges[1:]) / 2,
                    sum(getattr(row, f"{target}_histogram") for target in pair) / (2 * row.inliers),
                    strict=True,
                )
            ]
            if not rows:
                continue
            data, name = rounded(rows), " and ".join(pair)
            ticks = alt.Axis(values=[-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6], format=".1f")
            x = alt.X("target:Q", title=name, scale=alt.Scale(domain=[edges[0], edges[-1]], nice=False), axis=ticks)
            y = alt.Y("value:Q", title="Share of positives, %")
            chart = lines(data, Encodings(STAGES, data["label"]), x, y, points=False)
            description = f"{title}: distribution of the regression targets {name} of the positives of each stage."
            panels.append(panel(f"targets-{len(panels) + 1}", f"{title}: {name}", description, chart, height=180))
    caption = "Targets before normalisation. The narrower, the less is left to correct."
    return Figure("targets", caption, "stage-values", tuple(panels), whole=False)


def recall_figure(results: StudyResults) -> Figure:
    """Recall of the proposals and of every stage's boxes at every IoU threshold, a panel per detector."""
    panels = []
    for title, _, table in values.recalls_by_iou(results):
        rows = [
            {
                "label": f"after stage {row.stage}" if row.stage else "proposals",
                "iou": row.iou,
                "value": 100 * row.value,
            }
            for row in table.itertuples()
        ]
        if not rows:
            continue
        data = rounded(rows)
        labels = ["proposals", *(f"after {label}" for label in STAGES[1:])]
        y = alt.Y("value:Q", title="Recall, %", scale=alt.Scale(domain=[0, 100]))
        chart = lines(data, Encodings(labels, data["label"]), iou_axis(), y, detail="Boxes")
        description = f"{title}: share of the objects that the proposals and the boxes of each stage find, by IoU."
        panels.append(panel(f"recall-{len(panels) + 1}", title, description, chart, height=200))
    caption = "Objects found by up to 1000 boxes per image. A good regressor holds the line up toward the right."
    return Figure("recall", caption, "recall-values", tuple(panels), whole=False)


def root_share(title: str) -> alt.Y:
    """Axis of shares in percent; a square root lets small ones be seen, and has a place for zero."""
    axis = alt.Axis(values=[0, 1, 5, 10, 20, 40, 60, 80, 100])
    return alt.Y("value:Q", title=title, scale=alt.Scale(type="sqrt"), axis=axis)


def _by_stage(results: StudyResults, part: str, name: str, unit: str, word: str) -> tuple[Panel, ...]:
    """A panel per framework and stage with a line per detector, over the IoU of what enters."""
    rows = [
        {"panel": title.removesuffix(f": {detector.label}"), "stage": row.stage, "label": detector.label}
        | {"iou": row.iou, "value": row.value}
        for title, detector, table in values.localization(results, part)
        for row in table.itertuples()
    ]
    panels = []
    if not rows:
        return ()
    # Sorted by stage, the frameworks stand beside each other.
    by_panel = rounded(rows).groupby(["stage", "panel"], sort=False)
    for (stage, title), found in sorted(by_panel, key=lambda item: item[0][0]):
        x, y = over_iou("Input IoU", values.LOWEST_IOU), _output(part)
        chart = lines(found, Encodings(results.labels, found["label"]), x, y, detail="Detector")
        description = f"{title}, {word} {stage}: {unit} by the IoU of the RoIs that enter it, one line per detector."
        chart = _with_diagonal(chart, x, y) if part == "regressor" else chart
        panels.append(panel(f"{name}-{len(panels) + 1}", f"{title}: {word} {stage}", description, chart, height=220))
    return tuple(panels)


def _output(part: str) -> alt.Y:
    if part == "classifier":
        return alt.Y("value:Q", title="Mean cross-entropy", scale=alt.Scale(zero=True))
    return alt.Y("value:Q", title="Mean output IoU", scale=alt.Scale(domain=[values.LOWEST_IOU, 1], nice=False))


def _with_diagonal(chart: alt.LayerChart, x: alt.X, y: alt.Y) -> alt.LayerChart:
    """Add the line on which the output is as good as the input."""
    ends = pd.DataFrame({"iou": [values.LOWEST_IOU, 1], "value": [values.LOWEST_IOU, 1]})
    return alt.layer(alt.Chart(ends).mark_line(color="#8a929b", strokeWidth=1).encode(x=x, y=y), chart)


def localization_figure(results: StudyResults) -> Figure:
    """Output IoU against input IoU of every regressor."""
    panels = _by_stage(results, "regressor", "localization", "mean output IoU", "regressor")
    caption = "Above the straight line a regressor improves the boxes that it is given."
    return Figure("localization", caption, "localization-values", panels)


def loss_by_iou_figure(results: StudyResults) -> Figure:
    """Classification loss against input IoU of every classifier."""
    panels = _by_stage(results, "classifier", "loss-by-iou", "mean classification loss", "classifier")
    caption = "The loss is highest where a classifier must draw its line between object and background."
    return Figure("loss-by-iou", caption, "loss-by-iou-values", panels)


def accumulated_figure(results: StudyResults) -> Figure:
    """Output IoU of every stage against the IoU of the proposals, a panel per detector with several regressors."""
    panels = []
    for title, _, table in values.localization(results, "regressors so far"):
        if table["stage"].nunique() < 2:
            continue
        data = rounded(
            [{"label": f"stage {row.stage}", "iou": row.iou, "value": row.value} for row in table.itertuples()]
        )
        x, y = over_iou("IoU of the proposal", values.LOWEST_IOU), _output("regressor")
        chart = _with_diagonal(lines(data, Encodings(STAGES, data["label"]), x, y), x, y)
        description = (
            f"{title}: mean IoU of the boxes that leave each stage, by the IoU of the proposals they began as."
        )
        panels.append(panel(f"accumulated-{len(panels) + 1}", title, description, chart, height=220))
    caption = "Where a later line falls below an earlier one, regressing once more made these boxes worse."
    return Figure("accumulated", caption, "accumulated-values", tuple(panels))
