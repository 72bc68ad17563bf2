"""Scores of loose boxes."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from cascadebench.diagnostics.score_quality import SCORE_BINS
from cascadebench.report.data.diagnostic_files import pooled
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Row, Table, number_cell
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure
from cascadebench.report.parts.diagnostics.part import Part, Values, groups, lines, root_share, rounded, values
from cascadebench.uncertainty.gaps import stage_label


def _scores(detector: DetectorRecord) -> pd.DataFrame | None:
    """Scores of loose detections: index test_stage, columns of ``score_quality.parquet``; means over seeds."""
    table = pooled(detector.diagnostics, "score_quality")
    if table is None:
        return None
    by_stage = table.groupby("test_stage", sort=False)
    counts = by_stage[["count", "confident", "score_histogram"]].sum()
    return counts.join(by_stage[["mean_score", "spearman", "spearman_from_50"]].mean())


def drawn_stages(detector: DetectorRecord) -> list[str]:
    """Test stages that stand for the stages, and the headline: a chart of all would not be read."""
    variant = detector.runs[0].run.variant
    stages = [stage_label(stage, variant.classifiers) for stage in range(1, variant.stages + 1)]
    return list(dict.fromkeys([*stages, variant.headline]))


def score_figure(known: Values) -> Figure:
    """Distribution of the scores of loose detections, a panel per detector."""
    labels = list(dict.fromkeys(label for _, detector, _ in known for label in drawn_stages(detector)))
    drawings = []
    for title, detector, table in known:
        rows = [
            {"label": label, "score": (position + 0.5) / SCORE_BINS, "value": 100 * count / table.loc[label, "count"]}
            for label in drawn_stages(detector)
            if label in table.index and table.loc[label, "count"]
            for position, count in enumerate(table.loc[label, "score_histogram"])
        ]
        if rows:
            data = rounded(rows)
            x = alt.X("score:Q", title="Score", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".1f"))
            y = root_share("Share of these detections, %")
            chart = lines(data, Encodings(["", *labels], data["label"]), x, y, points=False, detail="Test stage")
            description = f"{title}: scores of detections whose IoU with an object of their class is from 0.50 to 0.75."
            drawings.append(Drawing(title, description, chart, height=200))
    caption = "Detections with an IoU from 0.50 to 0.75; bins of 0.05, root scale. The stages and the headline alone."
    return figure("scores", caption, "score-values", drawings, whole=False)


def score_table(known: Values) -> Table:
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


def build(results: StudyResults) -> tuple[Figure | Table, ...]:
    """Distribution of the scores, and its numbers."""
    known = values(results, _scores)
    return score_figure(known), score_table(known)


PART = Part(
    "loose-scores",
    "Scores of loose boxes",
    "score_quality",
    "The scores of detections that are right at IoU 0.50 and not above 0.75 (FSCascade, Fig. 5). A last stage "
    "that gives them low scores loses AP at low IoU.",
    "Every such detection counts, also a second one on the same object. Scores of different detectors need not "
    "be on one scale; compare their order, too.",
    build,
)
