"""What enters each stage in training, and what regressors and classifiers make of RoIs by their IoU."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from cascadebench.diagnostics.boxes import IOU_BINS
from cascadebench.diagnostics.stage_statistics import TARGETS, summarize_stages, target_edges
from cascadebench.report.data.diagnostic_files import pooled, summed
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Line, Row, Table, note, number_cell
from cascadebench.report.parts.charts import Drawing, Figure, figure
from cascadebench.report.parts.diagnostics.part import STAGES, Values, groups, lines, over_iou, root_share, rounded
from cascadebench.study.stage_settings import stage_settings

LOWEST_IOU = 0.3
"""Input IoU from which curves over it are drawn: below it are most RoIs, and no object."""


def entering_rois(detector: DetectorRecord) -> pd.DataFrame | None:
    """What entered each stage in the last quarter of the training: see ``summarize_stages``."""
    table = pooled(detector.diagnostics, "stage_statistics")
    return None if table is None or table.empty else summarize_stages(table)


def entering_figure(_: StudyResults, known: Values) -> Figure:
    """Distribution of IoU at the entrance of every stage, a panel per detector."""
    drawings = []
    for title, _, table in known:
        rows = [
            {"label": f"stage {row.stage}", "iou": (position + 0.5) / IOU_BINS, "value": 100 * count / max(row.rois, 1)}
            for row in table.itertuples()
            for position, count in enumerate(row.iou_histogram)
        ]
        y = root_share("Share of RoIs, % (root scale)")
        chart = lines(rows, STAGES, over_iou("IoU with the ground truth"), y, points=False)
        description = f"{title}: share of the RoIs that enter each stage in training, by their IoU in bins of 0.05."
        drawings.append(Drawing(title, description, chart, height=200))
    caption = "Each bin is 0.05 wide. The further right the mass, the better the boxes that a stage learns from."
    return figure("stage-iou", caption, "stage-values", drawings, whole=False)


def target_figure(_: StudyResults, known: Values) -> Figure:
    """Distribution of the regression targets of every stage, two panels per detector."""
    drawings = []
    for title, _, table in known:
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
            name = " and ".join(pair)
            ticks = alt.Axis(values=[-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6], format=".1f")
            x = alt.X("target:Q", title=name, scale=alt.Scale(domain=[edges[0], edges[-1]], nice=False), axis=ticks)
            chart = lines(rows, STAGES, x, alt.Y("value:Q", title="Share of positives, %"), points=False)
            description = f"{title}: distribution of the regression targets {name} of the positives of each stage."
            drawings.append(Drawing(f"{title}: {name}", description, chart, height=180))
    caption = "Targets before normalisation. The narrower, the less is left to correct."
    return figure("targets", caption, "stage-values", drawings, whole=False)


def entering_table(_: StudyResults, known: Values) -> Table:
    """Positives, outliers and target statistics of every stage."""

    def rows(detector: DetectorRecord, table: pd.DataFrame) -> Iterator[Row]:
        settings = stage_settings(detector.runs[0].run)
        for row in table.to_dict("records"):
            images = max(row["images"], 1)
            cells = [number_cell(row["rois"] / images, digits=0), number_cell(row["inliers"] / images)]
            cells += [number_cell(row[f"positives_{percent}"], 100, 2) for percent in (50, 60, 70)]
            cells.append(number_cell(row["outlier_share"], 100))
            cells += [number_cell(row[f"{target}_mean"], digits=3) for target in TARGETS]
            stds = settings[min(row["stage"], len(settings)) - 1].target_stds
            for target, std in zip(TARGETS, stds, strict=True):
                divisor = Line(f"÷ {std:.3f}", "muted", "divided by", std)
                cells.append(number_cell(row[f"{target}_std"], digits=3, notes=(divisor,)))
            yield Row(Cell(f"stage {row['stage']}", note(f"IoU {row['iou_threshold']:g}")), tuple(cells))

    columns = [Column("Stage", kind="text"), Column("RoIs", group="per image"), Column("Positives", group="per image")]
    columns += [Column(f"{percent / 100:.2f}", group="share of IoU from, %") for percent in (50, 60, 70)]
    columns.append(Column("Outliers, %"))
    columns += [Column(target, group="mean of positives' targets") for target in TARGETS]
    columns += [Column(target, group="deviation of positives' targets") for target in TARGETS]
    caption = (
        "RoIs that enter each stage in training, before sampling and without added ground truth; last quarter of the "
        "recorded iterations, all seeds together. Positives reach the stage's own IoU threshold. Outliers were "
        "positives of the first stage and are none here. Under a deviation, what the run divides the target by."
    )
    return Table("stage-values", caption, tuple(columns), groups(known, rows))


def by_input_iou(detector: DetectorRecord) -> pd.DataFrame | None:
    """Mean output IoU or loss by part, stage and bin of input IoU: part, stage, low, iou, count, value."""
    sums = summed(detector.diagnostics, "localization", ["part", "stage", "iou_low"])
    if sums is None:
        return None
    table = sums[(sums["count"] > 0) & (sums["iou_low"] >= LOWEST_IOU - 1e-9)]
    value, centre = table["value_sum"] / table["count"], table["iou_low"] + 0.5 / IOU_BINS
    return table.assign(value=value, low=table["iou_low"].round(2), iou=centre)


def _part(known: Values, part: str) -> Values:
    """Detectors with values of one part; what several regressors in a row make, only where there are several."""
    tables = ((title, detector, table[table["part"] == part]) for title, detector, table in known)
    least = 2 if part == "regressors so far" else 1
    return [(title, detector, table) for title, detector, table in tables if table["stage"].nunique() >= least]


def _by_stage(
    identifier: str, caption: str, results: StudyResults, known: Values, part: str, unit: str, y: alt.Y
) -> Figure:
    """A panel per framework and stage with a line per detector, over the IoU of what enters."""
    rows = [
        {"panel": title.removesuffix(f": {detector.label}"), "stage": row.stage, "label": detector.label}
        | {"iou": row.iou, "value": row.value}
        for title, detector, table in _part(known, part)
        for row in table.itertuples()
    ]
    by_panel = rounded(rows).groupby(["stage", "panel"], sort=False) if rows else ()
    drawings = []
    # Sorted by stage, the frameworks stand beside each other.
    for (stage, title), data in sorted(by_panel, key=lambda item: item[0][0]):
        x = over_iou("Input IoU", LOWEST_IOU)
        chart = lines(data, results.labels, x, y, detail="Detector")
        description = f"{title}, {part} {stage}: {unit} by the IoU of the RoIs that enter it, one line per detector."
        chart = _with_diagonal(chart, x, y) if part == "regressor" else chart
        drawings.append(Drawing(f"{title}: {part} {stage}", description, chart, height=220))
    return figure(identifier, caption, f"{identifier}-values", drawings)


def _output_iou() -> alt.Y:
    return alt.Y("value:Q", title="Mean output IoU", scale=alt.Scale(domain=[LOWEST_IOU, 1], nice=False))


def _with_diagonal(chart: alt.LayerChart, x: alt.X, y: alt.Y) -> alt.LayerChart:
    """Add the line on which the output is as good as the input."""
    ends = pd.DataFrame({"iou": [LOWEST_IOU, 1], "value": [LOWEST_IOU, 1]})
    return alt.layer(alt.Chart(ends).mark_line(color="#8a929b", strokeWidth=1).encode(x=x, y=y), chart)


def _by_bin(identifier: str, caption: str, known: Values, head: str) -> Table:
    """Values by bin of input IoU, a row per stage."""
    lows = sorted({low for _, _, table in known for low in table["low"]})

    def rows(_: DetectorRecord, table: pd.DataFrame) -> Iterator[Row]:
        for stage, of_stage in table.groupby("stage"):
            by_low = of_stage.set_index("low")["value"]
            yield Row(Cell(f"{head} {stage}"), tuple(number_cell(by_low.get(low), digits=3) for low in lows))

    columns = [Column(head.capitalize(), kind="text")]
    columns += [Column(f"{low:.2f}", group="input IoU from") for low in lows]
    return Table(identifier, caption, tuple(columns), groups(known, rows))


def regressor_figure(results: StudyResults, known: Values) -> Figure:
    """Mean output IoU of every regressor."""
    caption = "Above the straight line a regressor improves the boxes that it is given."
    return _by_stage("localization", caption, results, known, "regressor", "mean output IoU", _output_iou())


def regressor_table(_: StudyResults, known: Values) -> Table:
    """The same in numbers."""
    caption = (
        "Mean IoU of the boxes that leave a regressor, by the IoU of the RoIs that enter it, both with the ground "
        "truth that fits the RoI best."
    )
    return _by_bin("localization-values", caption, _part(known, "regressor"), "regressor")


def accumulated_figure(_: StudyResults, known: Values) -> Figure:
    """Mean output IoU of every stage by the IoU of the proposals, of detectors with several regressors."""
    drawings = []
    for title, _, table in _part(known, "regressors so far"):
        rows = [{"label": f"stage {row.stage}", "iou": row.iou, "value": row.value} for row in table.itertuples()]
        x, y = over_iou("IoU of the proposal", LOWEST_IOU), _output_iou()
        chart = _with_diagonal(lines(rows, STAGES, x, y), x, y)
        description = (
            f"{title}: mean IoU of the boxes that leave each stage, by the IoU of the proposals they began as."
        )
        drawings.append(Drawing(title, description, chart, height=220))
    caption = "Where a later line falls below an earlier one, regressing once more made these boxes worse."
    return figure("accumulated", caption, "accumulated-values", drawings)


def accumulated_table(_: StudyResults, known: Values) -> Table:
    """The same in numbers."""
    caption = "Mean IoU of the boxes that leave each stage, by the IoU of the proposals that they began as."
    return _by_bin("accumulated-values", caption, _part(known, "regressors so far"), "stage")


def loss_figure(results: StudyResults, known: Values) -> Figure:
    """Mean classification loss of every classifier."""
    y = alt.Y("value:Q", title="Mean cross-entropy", scale=alt.Scale(zero=True))
    caption = "The loss is highest where a classifier must draw its line between object and background."
    return _by_stage("loss-by-iou", caption, results, known, "classifier", "mean classification loss", y)


def loss_table(_: StudyResults, known: Values) -> Table:
    """The same in numbers."""
    caption = (
        "Mean cross-entropy of the RoIs in each bin. A RoI at or above the stage's IoU threshold has the class of "
        "its best ground truth, one below it is background."
    )
    return _by_bin("loss-by-iou-values", caption, _part(known, "classifier"), "classifier")
