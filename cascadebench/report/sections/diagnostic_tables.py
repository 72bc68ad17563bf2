"""Tables of the diagnostics, and of gaps over ranges of IoU."""

from collections.abc import Callable, Iterator

import pandas as pd

from cascadebench.diagnostics.error_kinds import KINDS
from cascadebench.diagnostics.recall import LIMITS
from cascadebench.diagnostics.stage_statistics import TARGETS
from cascadebench.evidence.matching import Beside
from cascadebench.metrics.coco.rules import IOUS
from cascadebench.report.data import diagnostic_values as values
from cascadebench.report.data.diagnostic_values import Of
from cascadebench.report.data.study_results import Detector, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Group, Line, Row, Table, number, number_cell
from cascadebench.report.sections.published import printed_in, printed_recalls
from cascadebench.study.stage_settings import stage_settings

_BY_IOU = tuple(Column("AP", f"{100 * iou:.0f}", "at one IoU threshold, in percent") for iou in IOUS)


def _groups(found: Of, rows: Callable[[Detector, pd.DataFrame], Iterator[Row]]) -> tuple[Group, ...]:
    return tuple(Group(title, tuple(rows(detector, table))) for title, detector, table in found)


def _text(value: float | None, scale: float = 1.0, digits: int = 1) -> Cell:
    return number_cell(None if value is None else float(value), scale, digits)


def stage_table(results: StudyResults) -> Table:
    """Positives, outliers and target statistics of every stage."""

    def rows(detector: Detector, table: pd.DataFrame) -> Iterator[Row]:
        settings = stage_settings(detector.runs[0].run)
        for row in table.to_dict("records"):
            images = max(row["images"], 1)
            cells = [_text(row["rois"] / images, digits=0), _text(row["inliers"] / images)]
            cells += [_text(row[f"positives_{percent}"], 100, 2) for percent in (50, 60, 70)]
            cells.append(_text(row["outlier_share"], 100))
            cells += [_text(row[f"{target}_mean"], digits=3) for target in TARGETS]
            stds = settings[min(row["stage"], len(settings)) - 1].target_stds
            for target, std in zip(TARGETS, stds, strict=True):
                divisor = Line(f"÷ {std:.3f}", "muted", "divided by", std)
                cells.append(number_cell(row[f"{target}_std"], digits=3, notes=(divisor,)))
            yield Row(Cell(f"stage {row['stage']}", (Line(f"IoU {row['iou_threshold']:g}", "muted"),)), tuple(cells))

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
    return Table("stage-values", caption, tuple(columns), _groups(values.stage_summaries(results), rows))


def _curve_table(identifier: str, caption: str, found: Of, word: str, digits: int) -> Table:
    """Values by bin of input IoU, a row per stage."""
    kept = list(found)
    lows = sorted({low for _, _, table in kept for low in table["low"]})

    def rows(_: Detector, table: pd.DataFrame) -> Iterator[Row]:
        for stage, part in table.groupby("stage"):
            by_low = part.set_index("low")["value"]
            yield Row(Cell(f"{word} {stage}"), tuple(_text(by_low.get(low), digits=digits) for low in lows))

    columns = [Column(word.capitalize(), kind="text")]
    columns += [Column(f"{low:.2f}", group="input IoU from") for low in lows]
    return Table(identifier, caption, tuple(columns), _groups(iter(kept), rows))


def localization_table(results: StudyResults) -> Table:
    """Mean output IoU of every regressor."""
    caption = (
        "Mean IoU of the boxes that leave a regressor, by the IoU of the RoIs that enter it, both with the ground "
        "truth that fits the RoI best."
    )
    found = values.localization(results, "regressor")
    return _curve_table("localization-values", caption, found, "regressor", 3)


def loss_table(results: StudyResults) -> Table:
    """Mean classification loss of every classifier."""
    caption = (
        "Mean cross-entropy of the RoIs in each bin. A RoI at or above the stage's IoU threshold has the class of "
        "its best ground truth, one below it is background."
    )
    return _curve_table("loss-by-iou-values", caption, values.localization(results, "classifier"), "classifier", 3)


def accumulated_table(results: StudyResults) -> Table:
    """Mean output IoU of every stage by the IoU of the proposals."""
    caption = "Mean IoU of the boxes that leave each stage, by the IoU of the proposals that they began as."
    several = (one for one in values.localization(results, "regressors so far") if one[2]["stage"].nunique() > 1)
    return _curve_table("accumulated-values", caption, several, "stage", 3)


def recall_table(results: StudyResults) -> Table:
    """Average recall of the proposals and of every stage's boxes, with what sources print of it."""
    metrics = [f"proposal_AR{limit}" for limit in LIMITS] + [f"proposal_AR{size}{LIMITS[-1]}" for size in "sml"]

    def rows(detector: Detector, table: pd.DataFrame) -> Iterator[Row]:
        printed = printed_recalls(detector)
        for stage, row in table.iterrows():
            beside = [printed.get((stage, metric)) for metric in metrics]
            source = printed_in(("printed in", one) for one in beside if one)
            cells = (
                number_cell(float(value), 100, notes=(_printed(one),) if one else ())
                for value, one in zip(row, beside, strict=True)
            )
            yield Row(Cell(f"after stage {stage}" if stage else "proposals", source), tuple(cells))

    columns = [Column("Boxes", kind="text"), *(Column("AR", str(limit), "boxes per image") for limit in LIMITS)]
    columns += [Column("AR", size, "by object size, 1000 boxes") for size in "SML"]
    caption = (
        "Average recall × 100 over IoU thresholds 0.50 to 0.95, whatever the class, of the proposals and of the "
        "boxes that leave each stage; the boxes of an image are ranked by the objectness of the proposals that they "
        "began as."
    )
    return Table("recall-values", caption, tuple(columns), _groups(values.recalls(results), rows))


def _printed(beside: Beside) -> Line:
    return Line(f"{number(beside.value.value)} printed", "muted", "printed", beside.value.value)


def _ap_cells(row: pd.Series) -> tuple[Cell, ...]:
    by_iou = row[list(IOUS)].astype(float)
    return tuple(_text(value, 100) for value in (by_iou.mean(skipna=False), *by_iou))


def quality_table(results: StudyResults) -> Table:
    """AP of every head on the RoIs of every stage."""

    def rows(_: Detector, table: pd.DataFrame) -> Iterator[Row]:
        for label, row in table.iterrows():
            yield Row(Cell(label), _ap_cells(row))

    caption = "AP × 100 of every head, classifier and regressor, on the RoIs that enter every stage; mean over seeds."
    columns = (Column("Cell", kind="text"), Column("AP"), *_BY_IOU)
    return Table("quality-values", caption, columns, _groups(values.qualities(results), rows))


def proposals_table(results: StudyResults) -> Table:
    """AP with other proposals."""

    def rows(_: Detector, table: pd.DataFrame) -> Iterator[Row]:
        for label, row in table.iterrows():
            yield Row(Cell(label), _ap_cells(row))

    caption = "AP × 100 of the same weights on other proposals, at the headline test stage; mean over seeds."
    columns = (Column("Proposals", kind="text"), Column("AP"), *_BY_IOU)
    return Table("proposals-values", caption, columns, _groups(values.other_proposals(results), rows))


def score_table(results: StudyResults) -> Table:
    """Scores of loose detections at every test stage."""

    def rows(_: Detector, table: pd.DataFrame) -> Iterator[Row]:
        for label, row in table.iterrows():
            share = row["confident"] / row["count"] if row["count"] else None
            correlations = (_text(row[name], digits=2) for name in ("spearman", "spearman_from_50"))
            cells = (
                _text(row["count"], digits=0),
                _text(row["mean_score"], digits=3),
                _text(share, 100),
                *correlations,
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
    return Table("score-values", caption, columns, _groups(values.scores(results), rows))


def error_table(results: StudyResults) -> Table:
    """Cost and number of every kind of error at every test stage."""

    def rows(detector: Detector, table: pd.DataFrame) -> Iterator[Row]:
        for label, part in table.groupby("test_stage", sort=False):
            by_kind = part.set_index("kind")
            notes = (Line("headline", "muted"),) if label == detector.headline else ()
            cells = [_text(part["ap50"].iloc[0], 100)]
            for kind in KINDS:
                row = by_kind.loc[kind]
                times = Line(f"{number(row['count'], digits=0)} times", "muted", "times", float(row["count"]))
                cells.append(number_cell(float(row["cost"]), 100, notes=(times,)))
            yield Row(Cell(label, notes), tuple(cells))

    columns = [Column("Test stage", kind="text"), Column("AP", "50")]
    columns += [Column(kind.capitalize(), group="cost in AP50 × 100") for kind in KINDS]
    caption = (
        "What each kind of error costs, and how often it occurs; means over seeds. Costs do not add up: mending one "
        "kind changes what another would bring."
    )
    return Table("error-values", caption, tuple(columns), _groups(values.errors(results), rows))


def nms_table(results: StudyResults) -> Table:
    """Survivors of the RPN's NMS at several IoU thresholds."""

    def rows(_: Detector, table: pd.DataFrame) -> Iterator[Row]:
        for row in table.to_dict("records"):
            cells = (
                _text(row["survivors"], digits=0),
                _text(row["overlap"], digits=3),
                _text(row["positives"], 100, 2),
            )
            head = Cell(f"{row['nms_iou']:.2f}", (Line(f"{row['images']:.0f} images", "muted"),))
            yield Row(head, (_text(row["candidates"], digits=0), *cells))

    columns = (
        Column("NMS IoU", kind="text"), Column("Candidates"), Column("Survivors"), Column("Highest overlap"),
        Column("Positives, %"),
    )  # fmt: skip
    caption = (
        "RPN candidates of a few images under NMS at several thresholds, level by level: candidates and survivors "
        "per image; the mean, over survivors, of the highest IoU with another survivor; and how many of the best "
        "1000 survivors of an image have an IoU of 0.5 or more with an object."
    )
    return Table("nms-values", caption, columns, _groups(values.survivors(results), rows))
