"""What enters each stage in training."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from cascadebench.diagnostics.boxes import IOU_BINS
from cascadebench.diagnostics.stage_statistics import TARGETS, summarize_stages, target_edges
from cascadebench.report.data.diagnostic_files import pooled
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Line, Row, Table, note, number_cell
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure
from cascadebench.report.parts.diagnostics.part import (
    STAGES,
    Part,
    Values,
    groups,
    lines,
    over_iou,
    root_share,
    rounded,
    values,
)
from cascadebench.study.stage_settings import stage_settings


def _summary(detector: DetectorRecord) -> pd.DataFrame | None:
    """What entered each stage in the last quarter of the training: see ``summarize_stages``."""
    table = pooled(detector.diagnostics, "stage_statistics")
    return None if table is None or table.empty else summarize_stages(table)


def iou_figure(known: Values) -> Figure:
    """Distribution of IoU at the entrance of every stage, a panel per detector."""
    drawings = []
    for title, _, table in known:
        rows = [
            {"label": f"stage {row.stage}", "iou": (position + 0.5) / IOU_BINS, "value": 100 * count / max(row.rois, 1)}
            for row in table.itertuples()
            for position, count in enumerate(row.iou_histogram)
        ]
        data = rounded(rows)
        y = root_share("Share of RoIs, % (root scale)")
        chart = lines(data, Encodings(STAGES, data["label"]), over_iou("IoU with the ground truth"), y, points=False)
        description = f"{title}: share of the RoIs that enter each stage in training, by their IoU in bins of 0.05."
        drawings.append(Drawing(title, description, chart, height=200))
    caption = "Each bin is 0.05 wide. The further right the mass, the better the boxes that a stage learns from."
    return figure("stage-iou", caption, "stage-values", drawings, whole=False)


def target_figure(known: Values) -> Figure:
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
            data, name = rounded(rows), " and ".join(pair)
            ticks = alt.Axis(values=[-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6], format=".1f")
            x = alt.X("target:Q", title=name, scale=alt.Scale(domain=[edges[0], edges[-1]], nice=False), axis=ticks)
            y = alt.Y("value:Q", title="Share of positives, %")
            chart = lines(data, Encodings(STAGES, data["label"]), x, y, points=False)
            description = f"{title}: distribution of the regression targets {name} of the positives of each stage."
            drawings.append(Drawing(f"{title}: {name}", description, chart, height=180))
    caption = "Targets before normalisation. The narrower, the less is left to correct."
    return figure("targets", caption, "stage-values", drawings, whole=False)


def stage_table(known: Values) -> Table:
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


def build(results: StudyResults) -> tuple[Figure | Table, ...]:
    """IoU, targets, and both in numbers."""
    known = values(results, _summary)
    return iou_figure(known), target_figure(known), stage_table(known)


PART = Part(
    "entering-rois",
    "What enters each stage in training",
    "stage_statistics",
    "IoU of the RoIs at the entrance of each stage, and the regression targets of its positives (Cascade R-CNN, "
    "Figs. 4 and 5). A cascade is meant to give every stage about as many positives as the first one has, "
    "although it asks for more IoU, and targets that grow narrower.",
    "Recorded every few iterations, by one process; the weights change meanwhile. Where classifier and regressor "
    "have RoIs of their own, those of the regressor.",
    build,
)
