"""Proposals: how many objects they and the boxes of each stage find, what others would give, what NMS leaves."""

from collections.abc import Iterator

import altair as alt
import numpy as np
import pandas as pd

from cascadebench.diagnostics.nms_survivors import NMS_IOUS
from cascadebench.diagnostics.recall import LIMITS, average_recall
from cascadebench.metrics.coco.rules import AP_AT_IOU, IOUS
from cascadebench.report.data.diagnostic_files import PROPOSALS_OF, ap_by_iou, summed
from cascadebench.report.data.study_results import DetectorRecord, Rows, RunRecord, StudyResults, framework_title
from cascadebench.report.parts.cells import Cell, Column, Line, Row, Table, note, number, number_cell
from cascadebench.report.parts.charts import Drawing, Figure, figure, iou_axis
from cascadebench.report.parts.detector_rows import mean_over_seeds
from cascadebench.report.parts.diagnostics.part import STAGES, Values, ap_lines, ap_table, groups, lines, values
from cascadebench.report.parts.printed_rows import printed_in, printed_recalls
from cascadebench.study.proposal_swaps import ProposalSource

_OWN = "own proposals"


def recall(detector: DetectorRecord) -> pd.DataFrame | None:
    """Matched and all objects by stage, area, limit and IoU, over the seeds."""
    return summed(detector.diagnostics, "recall", ["stage", "area", "limit", "iou"])


def recall_figure(_: StudyResults, known: Values) -> Figure:
    """Recall of the proposals and of every stage's boxes at every IoU threshold, a panel per detector."""
    labels = ["proposals", *(f"after {label}" for label in STAGES[1:])]
    drawings = []
    for title, _, table in known:
        table = table[(table["area"] == "all") & (table["limit"] == LIMITS[-1]) & (table["total"] > 0)]
        if not len(table):
            continue
        rows = [
            {"label": labels[row.stage], "iou": row.iou, "value": 100 * (row.matched / row.total)}
            for row in table.itertuples()
        ]
        y = alt.Y("value:Q", title="Recall, %", scale=alt.Scale(domain=[0, 100]))
        chart = lines(rows, labels, iou_axis(), y, detail="Boxes")
        description = f"{title}: share of the objects that the proposals and the boxes of each stage find, by IoU."
        drawings.append(Drawing(title, description, chart, height=200))
    caption = "Objects found by up to 1000 boxes per image. A good regressor holds the line up toward the right."
    return figure("recall", caption, "recall-values", drawings, whole=False)


def recall_table(_: StudyResults, known: Values) -> Table:
    """Average recall of the proposals and of every stage's boxes, with what sources print of it."""
    metrics = [f"proposal_AR{limit}" for limit in LIMITS] + [f"proposal_AR{size}{LIMITS[-1]}" for size in "sml"]

    def rows(detector: DetectorRecord, table: pd.DataFrame) -> Iterator[Row]:
        averages, printed = average_recall(table), printed_recalls(detector)
        by_limit = averages.xs("all", level="area").unstack("limit")[list(LIMITS)]
        by_area = averages.xs(LIMITS[-1], level="limit").unstack("area")[["small", "medium", "large"]]
        for stage, row in by_limit.join(by_area).iterrows():
            cells, beside = [], [printed.get((stage, metric)) for metric in metrics]
            for measured, one in zip(row, beside, strict=True):
                value = one.value.value if one else None
                notes = (Line(f"{number(value)} printed", "muted", "printed", value),) if one else ()
                cells.append(number_cell(measured, 100, notes=notes))
            source = printed_in(("printed in", one) for one in beside if one)
            yield Row(Cell(f"after stage {stage}" if stage else "proposals", source), tuple(cells))

    columns = [Column("Boxes", kind="text"), *(Column("AR", str(limit), "boxes per image") for limit in LIMITS)]
    columns += [Column("AR", size, "by object size, 1000 boxes") for size in "SML"]
    caption = (
        "Average recall × 100 over IoU thresholds 0.50 to 0.95, whatever the class, of the proposals and of the "
        "boxes that leave each stage; the boxes of an image are ranked by the objectness of the proposals that they "
        "began as."
    )
    return Table("recall-values", caption, tuple(columns), groups(known, rows))


def other_proposals(results: StudyResults) -> Values:
    """AP with its own proposals first, then with others: index name, a column for every IoU threshold."""
    scores, records = results.rows("ap", "test_stage"), {record.id: record for record in results.runs}
    return values(lambda detector: _by_proposals(detector, scores, records), results)


def _by_proposals(detector: DetectorRecord, scores: Rows, records: dict[str, RunRecord]) -> pd.DataFrame | None:
    rows, of_name = {}, {}
    for folder in sorted({name for run in detector.diagnostics for name in run if name.startswith(PROPOSALS_OF)}):
        tables = [run[folder] for run in detector.diagnostics if folder in run]
        words = _in_words(folder.removeprefix(f"{PROPOSALS_OF}/"), records, detector)
        of_name.setdefault(words, []).extend(tables)
    for name, tables in of_name.items():
        by_stage = ap_by_iou(tables)
        stage = detector.headline if detector.headline in by_stage.index else by_stage.index[0]
        if not rows:
            own = (mean_over_seeds(detector, scores, column, stage) for column in AP_AT_IOU)
            rows[_OWN] = pd.Series(own, index=by_stage.columns, dtype=float)
        rows[name] = by_stage.loc[stage]
    return pd.DataFrame(rows).T if rows else None


def _in_words(name: str, records: dict[str, RunRecord], detector: DetectorRecord) -> str:
    """A folder under ``proposals_of/`` in words: the same for all seeds."""
    source = ProposalSource.parse(name)
    if source.run_id is None:
        return "ground truth added"
    what = f"boxes after stage {source.stage}" if source.stage else "proposals"
    if source.run_id not in records:
        return f"{what} of {source.run_id}"
    other = records[source.run_id]
    abroad = f", {framework_title(other.run.framework)}" if other.run.framework != detector.framework else ""
    return f"{what} of {other.label}{abroad}"


def proposals_figure(_: StudyResults, known: Values) -> Figure:
    """AP by IoU with a detector's own and with other proposals, a panel per detector."""
    names = list(dict.fromkeys(name for _, _, table in known for name in table.index))
    dashes = [[6, 3] if name != _OWN else [1, 0] for name in names]
    drawings = []
    for title, _, table in known:
        rows = [
            {"label": name, "iou": iou, "value": 100 * table.loc[name, iou]} for name in table.index for iou in IOUS
        ]
        chart = ap_lines([row for row in rows if np.isfinite(row["value"])], names, "Proposals", known, dashes)
        description = f"{title}: AP times 100 by IoU threshold with its own proposals and, dashed, with other ones."
        drawings.append(Drawing(title, description, chart, height=220))
    caption = "Solid: its own proposals. Dashed: other ones, with the same weights."
    return figure("proposals", caption, "proposals-values", drawings)


def proposals_table(_: StudyResults, known: Values) -> Table:
    """The same in numbers."""
    caption = "AP × 100 of the same weights on other proposals, at the headline test stage; mean over seeds."
    return ap_table("proposals-values", caption, "Proposals", known)


def nms_survivors(detector: DetectorRecord) -> pd.DataFrame | None:
    """NMS survivors by IoU: nms_iou, images, candidates, survivors, overlap and positives."""
    sums = summed(detector.diagnostics, "nms_survivors", ["nms_iou"])
    if sums is None:
        return None
    per_image = sums[["candidates", "survivors"]].div(sums["images"], axis=0)
    overlap = sums["overlap_sum"] / sums["survivors"].where(sums["survivors"] > 0)
    positives = sums["top_positives"] / sums["top"].where(sums["top"] > 0)
    table = per_image.assign(nms_iou=sums["nms_iou"], images=sums["images"], overlap=overlap)
    return table.assign(positives=positives).head(len(NMS_IOUS))


def nms_table(_: StudyResults, known: Values) -> Table:
    """Survivors of the RPN's NMS at several IoU thresholds."""

    def rows(_: DetectorRecord, table: pd.DataFrame) -> Iterator[Row]:
        for row in table.to_dict("records"):
            cells = (
                number_cell(row["candidates"], digits=0),
                number_cell(row["survivors"], digits=0),
                number_cell(row["overlap"], digits=3),
                number_cell(row["positives"], 100, 2),
            )
            yield Row(Cell(f"{row['nms_iou']:.2f}", note(f"{row['images']:.0f} images")), cells)

    titles = ("Candidates", "Survivors", "Highest overlap", "Positives, %")
    caption = (
        "RPN candidates of a few images under NMS at several thresholds, level by level: candidates and survivors "
        "per image; the mean, over survivors, of the highest IoU with another survivor; and how many of the best "
        "1000 survivors of an image have an IoU of 0.5 or more with an object."
    )
    columns = (Column("NMS IoU", kind="text"), *map(Column, titles))
    return Table("nms-values", caption, columns, groups(known, rows))
