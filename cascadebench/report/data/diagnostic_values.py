"""Values of the diagnostics, detector by detector, for their charts and tables. Counts are pooled over seeds."""

from collections.abc import Iterator

import pandas as pd

from cascadebench.diagnostics.boxes import IOU_BINS
from cascadebench.diagnostics.nms_survivors import NMS_IOUS
from cascadebench.diagnostics.quality_matrix import QualityStage
from cascadebench.diagnostics.recall import LIMITS, average_recall
from cascadebench.diagnostics.stage_statistics import summarize_stages
from cascadebench.report.data.diagnostic_files import ap_by_iou, names_of_proposals, pooled, summed
from cascadebench.report.data.study_results import Detector, RunRecord, StudyResults, framework_title
from cascadebench.study.proposal_swaps import ProposalSource

LOWEST_IOU = 0.3
"""Input IoU from which curves over it are drawn: below it are most RoIs, and no object."""

Of = Iterator[tuple[str, Detector, pd.DataFrame]]
"""A detector under its title, and its values."""


def stage_summaries(results: StudyResults) -> Of:
    """What entered each stage in the last quarter of the training: see ``summarize_stages``."""
    for title, detector in results.titled_detectors():
        table = pooled(detector.diagnostics, "stage_statistics")
        if table is not None and len(table):
            yield title, detector, summarize_stages(table)


def localization(results: StudyResults, part: str) -> Of:
    """Mean output IoU or loss by stage and bin of input IoU from :data:`LOWEST_IOU`: stage, low, iou, count, value."""
    for title, detector in results.titled_detectors():
        sums = summed(detector.diagnostics, "localization", ["part", "stage", "iou_low"])
        if sums is None:
            continue
        table = sums[(sums["part"] == part) & (sums["count"] > 0) & (sums["iou_low"] >= LOWEST_IOU - 1e-9)]
        if len(table):
            value, centre = table["value_sum"] / table["count"], table["iou_low"] + 0.5 / IOU_BINS
            yield title, detector, table.assign(value=value, low=table["iou_low"].round(2), iou=centre)


def recalls(results: StudyResults) -> Of:
    """Average recall: index stage, columns of limits (area all), then of areas (1000 boxes)."""
    for title, detector in results.titled_detectors():
        sums = summed(detector.diagnostics, "recall", ["stage", "area", "limit", "iou"])
        if sums is None:
            continue
        recall = average_recall(sums)
        by_limit = recall.xs("all", level="area").unstack("limit")[list(LIMITS)]
        by_area = recall.xs(LIMITS[-1], level="limit").unstack("area")[["small", "medium", "large"]]
        yield title, detector, by_limit.join(by_area)


def recalls_by_iou(results: StudyResults) -> Of:
    """Recall of all objects by the most boxes that count: stage, iou and value."""
    for title, detector in results.titled_detectors():
        sums = summed(detector.diagnostics, "recall", ["stage", "area", "limit", "iou"])
        if sums is not None:
            table = sums[(sums["area"] == "all") & (sums["limit"] == LIMITS[-1]) & (sums["total"] > 0)]
            yield title, detector, table.assign(value=table["matched"] / table["total"])


def qualities(results: StudyResults) -> Of:
    """AP of every cell of the quality matrix: head, stage, and a column for every IoU threshold."""
    for title, detector in results.titled_detectors():
        found = [run.tables["quality_ap"] for run in detector.diagnostics if "quality_ap" in run.tables]
        if found:
            table = ap_by_iou(found)
            cells = {label: _cell(label) for label in table.index}
            table = table.loc[[label for label, cell in cells.items() if cell]]
            places = [cells[label] for label in table.index]
            table = table.assign(head=[cell.head for cell in places], stage=[cell.stage for cell in places])
            yield title, detector, table.sort_values(["head", "stage"])


def _cell(label: str) -> QualityStage | None:
    try:
        return QualityStage.parse(label)
    except ValueError:
        return None


def other_proposals(results: StudyResults) -> Of:
    """AP with its own proposals first, then with others: index name, a column for every IoU threshold."""
    ap, records = results.rows("ap", "test_stage"), {record.id: record for record in results.runs}
    for title, detector in results.titled_detectors():
        rows, groups = {}, {}
        for name, tables in names_of_proposals(detector.diagnostics):
            groups.setdefault(_proposals_name(name, records, detector), []).extend(tables)
        for name, tables in groups.items():
            by_stage = ap_by_iou(tables)
            stage = detector.headline if detector.headline in by_stage.index else by_stage.index[0]
            if not rows:
                own = [f"AP{round(100 * iou)}" for iou in by_stage.columns]
                means = [_mean(detector.by_seed(ap, column, stage)) for column in own]
                rows["own proposals"] = pd.Series(means, index=by_stage.columns)
            rows[name] = by_stage.loc[stage]
        if rows:
            yield title, detector, pd.DataFrame(rows).T


def _mean(by_seed: dict[int, float]) -> float:
    return sum(by_seed.values()) / len(by_seed) if by_seed else float("nan")


def _proposals_name(name: str, records: dict[str, RunRecord], detector: Detector) -> str:
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


def scores(results: StudyResults) -> Of:
    """Scores of loose detections: index test_stage, columns of ``score_quality.parquet``; means over seeds."""
    for title, detector in results.titled_detectors():
        table = pooled(detector.diagnostics, "score_quality")
        if table is not None:
            groups = table.groupby("test_stage", sort=False)
            counts = groups[["count", "confident", "score_histogram"]].sum()
            yield title, detector, counts.join(groups[["mean_score", "spearman", "spearman_from_50"]].mean())


def errors(results: StudyResults) -> Of:
    """Kinds of errors: test_stage, kind, count, ap50 and cost; means over seeds."""
    for title, detector in results.titled_detectors():
        table = pooled(detector.diagnostics, "error_kinds")
        if table is not None:
            groups = table.groupby(["test_stage", "kind"], sort=False)
            yield title, detector, groups[["count", "ap50", "cost"]].mean().reset_index()


def survivors(results: StudyResults) -> Of:
    """NMS survivors by IoU: nms_iou, images, candidates, survivors, overlap and positives."""
    for title, detector in results.titled_detectors():
        sums = summed(detector.diagnostics, "nms_survivors", ["nms_iou"])
        if sums is not None:
            per_image = sums[["candidates", "survivors"]].div(sums["images"], axis=0)
            overlap = sums["overlap_sum"] / sums["survivors"].where(sums["survivors"] > 0)
            positives = sums["top_positives"] / sums["top"].where(sums["top"] > 0)
            table = per_image.assign(nms_iou=sums["nms_iou"], images=sums["images"], overlap=overlap)
            yield title, detector, table.assign(positives=positives).head(len(NMS_IOUS))
