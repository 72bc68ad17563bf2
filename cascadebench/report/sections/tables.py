"""Tables of results: average precision, test stages, gaps, categories, training and runs."""

import math
from dataclasses import replace

from cascadebench.imported.record import FRAMEWORK, NOT_CONTROLLED
from cascadebench.report.data.study_results import AP_BY_IOU, IOU_PERCENTS, Detector, Rows, RunRecord, StudyResults
from cascadebench.report.parts.cells import (
    ABSENT,
    Cell,
    Column,
    Group,
    Line,
    Row,
    Spread,
    Table,
    from_to,
    half_width,
    number_cell,
    plain,
    points,
    score_cell,
    signed_points,
)

_AT_IOU = "at one IoU threshold, in percent"
_BY_IOU = tuple(Column("AP", str(percent), _AT_IOU) for percent in IOU_PERCENTS)
_BY_SIZE = tuple(Column("AP", size, "by object size") for size in "SML")


def _name(results: StudyResults, detector: Detector) -> Cell:
    """Header of a detector's row: label, what it is in the comparison, over how many seeds the values are means."""
    stage = "baseline" if detector.label == results.baseline else f"test stage {detector.headline}"
    if detector.framework == FRAMEWORK:
        stage += f", {NOT_CONTROLLED}"
    notes = [Line(stage, "muted")]
    evaluated = sum((record.id,) in results.headline_rows for record in detector.runs)
    if len(detector.runs) > 1:
        notes.append(Line(f"mean of {evaluated} of {len(detector.runs)} seeds", "muted"))
    if detector.failed:
        notes.append(Line("failed, see Runs", "bad"))
    elif not evaluated:
        notes.append(Line("no result yet", "muted"))
    return Cell(detector.label, tuple(notes))


def baseline_among(results: StudyResults, detector: Detector, detectors: list[Detector]) -> Detector | None:
    """The baseline among `detectors`, for a detector that is not the baseline itself."""
    if detector.label == results.baseline:
        return None
    return next((other for other in detectors if other.label == results.baseline), None)


def _score_cell(detector: Detector, reference: Detector | None, rows: Rows, column: str, *key: str) -> Cell:
    baseline = reference.by_seed(rows, column, *key) if reference else None
    return score_cell(detector.by_seed(rows, column, *key), baseline)


def range_words(results: StudyResults) -> str:
    """What the range under a value is, where there are several seeds."""
    return " Two values with … between them are the lowest and the highest seed." if results.several_seeds else ""


_SCORES = ("AP", *AP_BY_IOU, "APs", "APm", "APl", "AR100")
_SCORE_COLUMNS = (Column("AP"), *_BY_IOU, *_BY_SIZE, Column("AR", "100"))


def headline_table(results: StudyResults) -> Table:
    """AP by IoU and by size for every detector, with intervals and the difference to the framework's own baseline."""
    groups = []
    for title, detectors in results.panels_with_imported():
        rows = []
        for detector in detectors:
            reference = baseline_among(results, detector, detectors)
            cells = (_headline_cell(results, detector, reference, name) for name in _SCORES)
            rows.append(Row(_name(results, detector), tuple(cells)))
        groups.append(Group(title, tuple(rows)))
    columns = (Column("Detector", kind="text"), *_SCORE_COLUMNS)
    caption = (
        "Average precision × 100 on the validation split, and under each value its difference to the baseline of the "
        "same framework (+ better, − worse, from unrounded values). AP is the mean over ten IoU thresholds; S, M and "
        "L are small, medium and large objects; AR100 is average recall with up to 100 detections per image."
    )
    if results.has_intervals:
        caption += (
            " ± is the 95% interval of an AP on other validation images like these. Under a difference, at AP, AP50, "
            "AP75 and AP90, its own 95% interval from resamples of the images that both detectors share: one that "
            "does not hold zero is a difference beyond the choice of images. intervals.csv has all of them."
        )
    return Table("headline", caption + range_words(results), columns, tuple(groups))


_WITH_INTERVAL_OF_DIFFERENCE = ("AP", "AP50", "AP75", "AP90")


def _headline_cell(results: StudyResults, detector: Detector, reference: Detector | None, name: str) -> Cell:
    """An AP with its interval, and its difference to the baseline with that difference's."""
    cell = _score_cell(detector, reference, results.headline_rows, name)
    notes = half_width(results.interval(detector, name, test_stage=detector.headline)) + cell.notes
    if reference and name in _WITH_INTERVAL_OF_DIFFERENCE:
        notes += from_to(results.interval(detector, name, gap=f"{detector.headline} - baseline"))
    return replace(cell, notes=notes)


def mask_table(results: StudyResults) -> Table:
    """AP of the masks of the detectors that predict them; empty without such a detector or without its results."""
    groups = []
    scores = results.rows("ap_masks", "test_stage") if results.study.masks else {}
    for title, detectors in results.panels() if scores else ():
        rows = [
            Row(
                Cell(detector.label, (Line(f"test stage {detector.headline}", "muted"),)),
                tuple(_score_cell(detector, None, scores, name, detector.headline) for name in _SCORES),
            )
            for detector in detectors
            if detector.runs[0].run.variant.masks
        ]
        groups.append(Group(title, tuple(rows)))
    caption = (
        "Average precision × 100 by the IoU of masks, where a detector predicts them; every other table is of boxes."
    )
    columns = (Column("Detector", kind="text"), *_SCORE_COLUMNS)
    return Table("masks", caption + range_words(results), columns, tuple(groups))


def stage_table(results: StudyResults) -> Table:
    """AP by IoU of every test stage of the detectors with several."""
    scores = results.rows("ap", "test_stage")
    groups = []
    for title, detectors in results.panels_with_imported():
        for detector in detectors:
            runs = {record.id for record in detector.runs}
            found = {stage for run, stage in scores if run in runs}
            expected = [stage.label for stage in detector.runs[0].run.variant.test_stages]
            stages = [stage for stage in expected if stage in found] + sorted(found - set(expected))
            if len(stages) < 2:
                continue
            rows = []
            for stage in stages:
                note = (Line("headline", "muted"),) if stage == detector.headline else ()
                cells = (_score_cell(detector, None, scores, name, stage) for name in ("AP", *AP_BY_IOU))
                rows.append(Row(Cell(stage, note), tuple(cells)))
            groups.append(Group(f"{title}: {detector.label}", tuple(rows)))
    columns = (Column("Test stage", kind="text"), Column("AP"), *_BY_IOU)
    caption = "AP × 100 of every test stage; all of them come from the same weights and the same pass over the images."
    return Table("stages", caption + range_words(results), columns, tuple(groups))


def gap_table(results: StudyResults) -> Table:
    """Every gap at every IoU threshold."""
    rows_of_gaps = {
        (run, gap, round(iou * 100)): row
        for (run, gap, iou), row in results.rows("gaps", "gap", "iou").items()
        if not math.isnan(iou)
    }
    groups = []
    for title, detectors in results.panels():
        rows = []
        for detector in detectors:
            runs = {record.id for record in detector.runs}
            for gap in dict.fromkeys(gap for run, gap, _ in rows_of_gaps if run in runs):
                spreads = [Spread.of(detector.by_seed(rows_of_gaps, "gap_ap", gap, p)) for p in IOU_PERCENTS]
                head = Cell(gap.replace(" - ", " − "), (Line(detector.label, "muted"),))
                rows.append(Row(head, tuple(_gap_cell(spread) for spread in spreads)))
        groups.append(Group(title, tuple(rows)))
    caption = "Differences of AP × 100 at each IoU threshold; above zero, the first of the two is better."
    columns = (Column("Gap", kind="text"), *_BY_IOU)
    return Table("gap-values", caption + range_words(results), columns, tuple(groups))


def _gap_cell(spread: Spread) -> Cell:
    mean, ends = signed_points(spread.mean), spread.range_line(100, 1)
    return Cell(mean.text or points(None), (ends,) if ends.text else (), value=mean.value)


_PER_CATEGORY = ("AP", "AP50", "AP75")


def category_tables(results: StudyResults) -> list[Table]:
    """AP, AP50 and AP75 of every category at the headline test stage, a table per framework and backbone."""
    # Each run has one headline test stage, so run and category find the row.
    headlines = {one.id: one.variant.headline for one in (*(record.run for record in results.runs), *results.imported)}
    scores = {
        (run, category): row
        for (run, stage, category), row in results.rows("ap_per_class", "test_stage", "category").items()
        if headlines.get(run) == stage
    }
    found = list(dict.fromkeys(category for _, category in scores))
    known = [category for category in results.study.dataset.categories if category in found]
    tables = []
    for title, detectors in results.panels_with_imported():
        columns = [Column("Category", kind="text")]
        cells: dict[str, list[Cell]] = {category: [] for category in dict.fromkeys([*known, *found])}
        for detector in detectors:
            columns += [Column("AP", name.removeprefix("AP"), detector.label) for name in _PER_CATEGORY]
            reference = baseline_among(results, detector, detectors)
            for category, row in cells.items():
                row += [_score_cell(detector, reference, scores, name, category) for name in _PER_CATEGORY]
        rows = tuple(Row(Cell(category), tuple(row)) for category, row in cells.items())
        caption = (
            f"{title}: AP × 100 of each category at the headline test stage, with the difference to the baseline of "
            "the same framework."
        )
        identifier = f"categories-{len(tables) + 1}"
        tables.append(Table(identifier, caption + range_words(results), tuple(columns), (Group("", rows),)))
    return [table for table in tables if not table.empty]


def _run_name(record: RunRecord) -> Cell:
    return Cell(record.label, (Line(f"seed {record.run.seed}", "muted"),))


def training_table(results: StudyResults) -> Table:
    """Loss and learning rate at both ends of every training."""
    groups = []
    for title, detectors in results.panels():
        rows = []
        for record in (record for detector in detectors for record in detector.runs if len(record.log)):
            losses, last = record.log["loss"], record.log.iloc[-1]
            share = max(1, len(losses) // 20)
            iterations = f"{last['iteration'] + 1:.0f} of {record.run.protocol.schedule.iterations}"
            ends = [number_cell(part.mean(), digits=3) for part in (losses.head(share), losses.tail(share))]
            rate = Cell(plain(last["lr"]), value=float(last["lr"]))
            rows.append(Row(_run_name(record), (Cell(iterations), *ends, rate)))
        groups.append(Group(title, tuple(rows)))
    titles = ("Iterations", "First loss", "Last loss", "Last learning rate")
    caption = "The total loss as mean over the first and over the last 5 % of the logged iterations."
    columns = (Column("Run", kind="text"), *(Column(title) for title in titles))
    return Table("training-ends", caption, columns, tuple(groups))


def run_table(results: StudyResults) -> Table:
    """State of every run, with its id."""
    groups = []
    for title, detectors in results.panels():
        rows = []
        for record in (record for detector in detectors for record in detector.runs):
            state = Cell(record.state, tone="bad" if record.state == "failed" else "")
            rows.append(Row(_run_name(record), (state, Cell(record.detail), Cell(record.id))))
        groups.append(Group(title, tuple(rows)))
    columns = (
        Column("Run", kind="text"),
        Column("State", kind="text"),
        Column("Detail", kind="text"),
        Column("Folder under results/runs/", kind="code"),
    )
    return Table("run-states", "State of every run of the study.", columns, tuple(groups))


def imported_table(results: StudyResults) -> Table:
    """Where imported detections come from."""
    rows = []
    for one in (run.file for run in results.imported):
        made = ", ".join(f"{key}: {plain(value)}" for key, value in one.made_with.items())
        files = [Line(f"{source.name} {source.sha256}", "muted") for source in one.files]
        cells = (Cell(one.notes or ABSENT), Cell(made or ABSENT), Cell("", tuple(files)), Cell(one.time))
        rows.append(Row(Cell(one.title, (Line(one.name, "muted"),)), (*cells, Cell(one.ground_truth_sha256))))
    columns = (
        Column("Detector", kind="text"),
        Column("Notes", kind="text"),
        Column("Run here with", kind="text"),
        Column("Files and their SHA-256", kind="code"),
        Column("Imported", kind="text"),
        Column("SHA-256 of the ground truth", kind="code"),
    )
    caption = (
        "Detections of models from elsewhere, on the same images by the same evaluator. No protocol, audit or seed "
        "stands behind them, so a difference to them is no finding about a method."
    )
    return Table("imported", caption, columns, (Group("", tuple(rows)),))
