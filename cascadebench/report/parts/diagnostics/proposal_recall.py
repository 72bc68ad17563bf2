"""Recall of the proposals and of the boxes that leave each stage."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from cascadebench.diagnostics.recall import LIMITS, average_recall
from cascadebench.evidence.comparability import Beside
from cascadebench.report.data.diagnostic_files import summed
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Line, Row, Table, number, number_cell
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure
from cascadebench.report.parts.diagnostics.part import STAGES, Part, Values, groups, lines, rounded, values
from cascadebench.report.parts.iou_curves import iou_axis
from cascadebench.report.parts.printed_rows import printed_in, printed_recalls


def _counts(detector: DetectorRecord) -> pd.DataFrame | None:
    """Matched and all objects by stage, area, limit and IoU, over the seeds."""
    return summed(detector.diagnostics, "recall", ["stage", "area", "limit", "iou"])


def recall_figure(known: Values) -> Figure:
    """Recall of the proposals and of every stage's boxes at every IoU threshold, a panel per detector."""
    labels = ["proposals", *(f"after {label}" for label in STAGES[1:])]
    drawings = []
    for title, _, table in known:
        table = table[(table["area"] == "all") & (table["limit"] == LIMITS[-1]) & (table["total"] > 0)]
        if not len(table):
            continue
        data = rounded(
            [
                {"label": labels[row.stage], "iou": row.iou, "value": 100 * (row.matched / row.total)}
                for row in table.itertuples()
            ]
        )
        y = alt.Y("value:Q", title="Recall, %", scale=alt.Scale(domain=[0, 100]))
        chart = lines(data, Encodings(labels, data["label"]), iou_axis(), y, detail="Boxes")
        description = f"{title}: share of the objects that the proposals and the boxes of each stage find, by IoU."
        drawings.append(Drawing(title, description, chart, height=200))
    caption = "Objects found by up to 1000 boxes per image. A good regressor holds the line up toward the right."
    return figure("recall", caption, "recall-values", drawings, whole=False)


def recall_table(known: Values) -> Table:
    """Average recall of the proposals and of every stage's boxes, with what sources print of it."""
    metrics = [f"proposal_AR{limit}" for limit in LIMITS] + [f"proposal_AR{size}{LIMITS[-1]}" for size in "sml"]

    def rows(detector: DetectorRecord, table: pd.DataFrame) -> Iterator[Row]:
        recall, printed = average_recall(table), printed_recalls(detector)
        by_limit = recall.xs("all", level="area").unstack("limit")[list(LIMITS)]
        by_area = recall.xs(LIMITS[-1], level="limit").unstack("area")[["small", "medium", "large"]]
        for stage, row in by_limit.join(by_area).iterrows():
            beside = [printed.get((stage, metric)) for metric in metrics]
            source = printed_in(("printed in", value) for value in beside if value)
            cells = (
                number_cell(measured, 100, notes=(_printed(value),) if value else ())
                for measured, value in zip(row, beside, strict=True)
            )
            yield Row(Cell(f"after stage {stage}" if stage else "proposals", source), tuple(cells))

    columns = [Column("Boxes", kind="text"), *(Column("AR", str(limit), "boxes per image") for limit in LIMITS)]
    columns += [Column("AR", size, "by object size, 1000 boxes") for size in "SML"]
    caption = (
        "Average recall × 100 over IoU thresholds 0.50 to 0.95, whatever the class, of the proposals and of the "
        "boxes that leave each stage; the boxes of an image are ranked by the objectness of the proposals that they "
        "began as."
    )
    return Table("recall-values", caption, tuple(columns), groups(known, rows))


def _printed(beside: Beside) -> Line:
    return Line(f"{number(beside.value.value)} printed", "muted", "printed", beside.value.value)


def build(results: StudyResults) -> tuple[Figure | Table, ...]:
    """Recall by IoU, and on average."""
    known = values(results, _counts)
    return recall_figure(known), recall_table(known)


PART = Part(
    "proposal-recall",
    "Recall of the stages",
    "recall",
    "How many objects the boxes of each stage find, whatever class they are given (Cascade R-CNN, Table 8; its "
    "stage t is what enters stage t, so its stage 1 are the proposals here).",
    "Boxes keep the objectness of the proposal that they began as, and no NMS follows a stage.",
    build,
)
