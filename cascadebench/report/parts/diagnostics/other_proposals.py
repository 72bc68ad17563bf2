"""The same weights on other proposals."""

import numpy as np
import pandas as pd

from cascadebench.metrics.coco.rules import AP_AT_IOU, IOUS
from cascadebench.report.data.diagnostic_files import PROPOSALS_OF, ap_by_iou, names_of_proposals
from cascadebench.report.data.study_results import DetectorRecord, Rows, RunRecord, StudyResults, framework_title
from cascadebench.report.parts.cells import Table
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure
from cascadebench.report.parts.detector_rows import mean_over_seeds
from cascadebench.report.parts.diagnostics.part import Part, Values, ap_lines, ap_table, rounded, values
from cascadebench.study.proposal_swaps import ProposalSource

_OWN = "own proposals"


def _by_proposals(detector: DetectorRecord, scores: Rows, records: dict[str, RunRecord]) -> pd.DataFrame | None:
    """AP with its own proposals first, then with others: index name, a column for every IoU threshold."""
    rows, of_name = {}, {}
    for name, tables in names_of_proposals(detector.diagnostics):
        of_name.setdefault(_in_words(name, records, detector), []).extend(tables)
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


def proposals_figure(known: Values) -> Figure:
    """AP by IoU with a detector's own and with other proposals, a panel per detector."""
    names = list(dict.fromkeys(name for _, _, table in known for name in table.index))
    drawings = []
    for title, _, table in known:
        rows = [
            {"label": name, "iou": iou, "value": 100 * table.loc[name, iou]} for name in table.index for iou in IOUS
        ]
        data = rounded([row for row in rows if np.isfinite(row["value"])])
        dashes = [[6, 3] if name != _OWN else [1, 0] for name in names]
        chart = ap_lines(data, Encodings(names, data["label"], dashes), "Proposals", known)
        description = f"{title}: AP times 100 by IoU threshold with its own proposals and, dashed, with other ones."
        drawings.append(Drawing(title, description, chart, height=220))
    caption = "Solid: its own proposals. Dashed: other ones, with the same weights."
    return figure("proposals", caption, "proposals-values", drawings)


def build(results: StudyResults) -> tuple[Figure | Table, ...]:
    """AP by IoU with each kind of proposals, drawn and in numbers."""
    scores, records = results.rows("ap", "test_stage"), {record.id: record for record in results.runs}
    known = values(results, lambda detector: _by_proposals(detector, scores, records))
    caption = "AP × 100 of the same weights on other proposals, at the headline test stage; mean over seeds."
    return proposals_figure(known), ap_table("proposals-values", caption, "Proposals", known)


PART = Part(
    "other-proposals",
    "Other proposals",
    PROPOSALS_OF,
    "The same weights with ground truth added to the proposals, or with the proposals of another run (Cascade "
    "R-CNN, Fig. 7): what is lost because the proposals are not better.",
    "With ground truth added, AP is a bound that no detector can reach without knowing the answer.",
    build,
)
