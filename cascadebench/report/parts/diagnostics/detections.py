"""Detections: AP of every head on the RoIs of every stage, scores of loose boxes, kinds of errors."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from cascadebench.diagnostics.error_kinds import KINDS
from cascadebench.diagnostics.observations import QualityStage
from cascadebench.diagnostics.score_quality import SCORE_BINS
from cascadebench.metrics.coco.rules import IOUS
from cascadebench.report.data.diagnostic_files import ap_by_iou, pooled
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Line, Row, Table, note, number, number_cell
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure, shaded_table, tooltips
from cascadebench.report.parts.diagnostics.part import (
    STAGES,
    Values,
    ap_lines,
    ap_table,
    groups,
    lines,
    root_share,
    rounded,
)
from cascadebench.uncertainty.gaps import stage_label


def quality_matrix(detector: DetectorRecord) -> pd.DataFrame | None:
    """AP of every cell of the quality matrix: head, stage, and a column for every IoU threshold."""
    tables = [run["quality_ap"] for run in detector.diagnostics if "quality_ap" in run]
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


def quality_figure(_: StudyResults, known: Values) -> Figure:
    """The quality matrix as a heat table, a panel per detector."""
    every = [100 * ap for _, _, table in known for ap in table[list(IOUS)].mean(axis=1)]
    ends = [min(every, default=0), max(every, default=1)]
    tooltip = tooltips(("head:O", "Head"), ("stage:O", "RoIs of stage"), ("value:Q", "AP × 100", ".1f"))
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


def quality_iou_figure(_: StudyResults, known: Values) -> Figure:
    """AP by IoU of every head on the RoIs of every stage, a panel per detector and head."""
    drawings = []
    for title, _, table in known:
        for head, cells in table.groupby("head"):
            rows = [
                {"label": f"stage {row['stage']:.0f}", "iou": iou, "value": 100 * row[iou]}
                for _, row in cells.iterrows()
                for iou in IOUS
            ]
            description = f"{title}: AP times 100 by IoU threshold of head {head} on the RoIs of each stage."
            chart = ap_lines(rows, STAGES, "RoIs of", known)
            drawings.append(Drawing(f"{title}: head {head}", description, chart, height=200))
    return figure("quality-iou", "One line for the RoIs of each stage.", "quality-values", drawings)


def quality_table(_: StudyResults, known: Values) -> Table:
    """The same in numbers."""
    caption = "AP × 100 of every head, classifier and regressor, on the RoIs that enter every stage; mean over seeds."
    return ap_table("quality-values", caption, "Cell", known)


def loose_scores(detector: DetectorRecord) -> pd.DataFrame | None:
    """Scores of loose detections: index test_stage, columns of ``score_quality.parquet``; means over seeds."""
    table = pooled(detector.diagnostics, "score_quality")
    if table is None:
        return None
    by_stage = table.groupby("test_stage", sort=False)
    counts = by_stage[["count", "confident", "score_histogram"]].sum()
    return counts.join(by_stage[["mean_score", "spearman", "spearman_from_50"]].mean())


def _drawn_stages(detector: DetectorRecord) -> list[str]:
    """Test stages that stand for the stages, and the headline: a chart of all would not be read."""
    variant = detector.runs[0].run.variant
    stages = [stage_label(stage, variant.classifiers) for stage in range(1, variant.stages + 1)]
    return list(dict.fromkeys([*stages, variant.headline]))


def score_figure(_: StudyResults, known: Values) -> Figure:
    """Distribution of the scores of loose detections, a panel per detector."""
    labels = list(dict.fromkeys(label for _, detector, _ in known for label in _drawn_stages(detector)))
    drawings = []
    for title, detector, table in known:
        rows = [
            {"label": label, "score": (position + 0.5) / SCORE_BINS, "value": 100 * count / table.loc[label, "count"]}
            for label in _drawn_stages(detector)
            if label in table.index and table.loc[label, "count"]
            for position, count in enumerate(table.loc[label, "score_histogram"])
        ]
        if rows:
            x = alt.X("score:Q", title="Score", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".1f"))
            y = root_share("Share of these detections, %")
            chart = lines(rows, ["", *labels], x, y, points=False, detail="Test stage")
            description = f"{title}: scores of detections whose IoU with an object of their class is from 0.50 to 0.75."
            drawings.append(Drawing(title, description, chart, height=200))
    caption = "Detections with an IoU from 0.50 to 0.75; bins of 0.05, root scale. The stages and the headline alone."
    return figure("scores", caption, "score-values", drawings, whole=False)


def score_table(_: StudyResults, known: Values) -> Table:
    """Scores of loose detections at every test stage."""

    def rows(_: DetectorRecord, table: pd.DataFrame) -> Iterator[Row]:
        for label, row in table.iterrows():
            share = row["confident"] / row["count"] if row["count"] else None
            cells = (
                number_cell(row["count"], digits=0),
                number_cell(row["mean_score"], digits=3),
                number_cell(share, 100),
                *(number_cell(row[name], digits=2) for name in ("spearman", "spearman_from_50")),
            )
            yield Row(Cell(label), cells)

    columns = (
        Column("Test stage", kind="text"),
        *(Column(title, group="IoU from 0.50 to 0.75") for title in ("Detections", "Mean score", "Above 0.5, %")),
        *(Column(title, group="Spearman, score and IoU") for title in ("0.50 to 0.75", "from 0.50")),
    )
    caption = (
        "Scores of detections whose IoU with an object of their class is from 0.50 to 0.75, and how the order of "
        "scores follows the order of IoU. Mean score and correlation are means over seeds."
    )
    return Table("score-values", caption, columns, groups(known, rows))


def error_kinds(detector: DetectorRecord) -> pd.DataFrame | None:
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
                tooltip=tooltips(("label:N", "Detector"), ("kind:N", "Kind"), ("value:Q", "Cost", ".2f")),
            )
        )
        description = f"{title}: AP at IoU 0.5 that each kind of error costs, one bar per detector."
        drawings.append(Drawing(title, description, chart, height=220))
    caption = "Headline test stage: by how much AP50 would rise if this kind of error alone were mended."
    return figure("errors", caption, "error-values", drawings)


def error_table(_: StudyResults, known: Values) -> Table:
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
