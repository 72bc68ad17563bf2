"""Accuracy: AP of every detector, of its masks, of every category, and what sources print of it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cascadebench.imported.record import FRAMEWORK, NOT_CONTROLLED
from cascadebench.metrics.coco.rules import AP_AT_IOU
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Group, Line, Row, Table, ap_columns, ends_of, from_to
from cascadebench.report.parts.detector_rows import (
    baseline_among,
    detector_groups,
    range_caption,
    scores_of,
    stage_head,
)
from cascadebench.report.parts.printed_rows import not_published, published_table
from cascadebench.report.parts.section import Section
from cascadebench.uncertainty.gaps import headline_gap

_OF_CATEGORIES = ("AP", "AP50", "AP75")
_SCORES = ("AP", *AP_AT_IOU, "APs", "APm", "APl", "AR100")
_COLUMNS = (
    Column("Detector", kind="text"),
    Column("AP"),
    *ap_columns(),
    *(Column("AP", size, "by object size") for size in "SML"),
    Column("AR", "100"),
)
_WITH_INTERVAL_OF_DIFFERENCE = ("AP", "AP50", "AP75", "AP90")


def _head(results: StudyResults, detector: DetectorRecord) -> Cell:
    """Header of a detector's row: label, what it is in the comparison, over how many seeds the values are means."""
    stage = "baseline" if detector.is_baseline else f"test stage {detector.headline}"
    if detector.framework == FRAMEWORK:
        stage += f", {NOT_CONTROLLED}"
    notes = [Line(stage, "muted")]
    evaluated = sum((record.id,) in results.headline_rows for record in detector.runs)
    if len(detector.runs) > 1:
        notes.append(Line(f"mean of {evaluated} of {len(detector.runs)} seeds", "muted"))
    if any(record.state == "failed" for record in detector.runs):
        notes.append(Line("failed, see Runs", "bad"))
    elif not evaluated:
        notes.append(Line("no result yet", "muted"))
    return Cell(detector.label, tuple(notes))


def headline_table(results: StudyResults) -> Table:
    """AP by IoU and by size for every detector, with intervals and the difference to the framework's own baseline."""

    def rows(detector: DetectorRecord, baseline: DetectorRecord | None) -> Iterator[Row]:
        cells = (_headline_cell(results, detector, baseline, name) for name in _SCORES)
        yield Row(_head(results, detector), tuple(cells))

    caption = (
        "Average precision × 100 on the validation split, and under each value its difference to the baseline of the "
        "same framework (+ better, − worse, from unrounded values). AP is the mean over ten IoU thresholds; S, M and "
        "L are small, medium and large objects; AR100 is average recall with up to 100 detections per image."
    )
    if results.intervals:
        caption += (
            " Under an AP is its 95% interval on other validation images like these. Under a difference, at AP, AP50, "
            "AP75 and AP90, its own 95% interval from resamples of the images that both detectors share: one that "
            "does not hold zero is a difference beyond the choice of images. intervals.csv has all of them. "
            + results.coverage_warning()
        ).rstrip()
    groups = detector_groups(results.panels_with_imported(), rows)
    return Table("headline", caption + range_caption(results), _COLUMNS, groups)


def _headline_cell(results: StudyResults, detector: DetectorRecord, baseline: DetectorRecord | None, name: str) -> Cell:
    """An AP with its interval, and its difference to the baseline with that difference's."""
    cell = scores_of(detector, baseline, results.headline_rows, name)
    notes = ends_of(results.interval(detector, name, test_stage=detector.headline)) + cell.notes
    if baseline and name in _WITH_INTERVAL_OF_DIFFERENCE:
        notes += from_to(results.interval(detector, name, gap=headline_gap(detector.runs[0].run.variant)))
    return replace(cell, notes=notes)


def mask_table(results: StudyResults) -> Table:
    """AP of the masks of the detectors that predict them; empty without such a detector or without its results."""
    scores = results.rows("ap_masks", "test_stage") if results.study.masks else {}

    def rows(detector: DetectorRecord, _: DetectorRecord | None) -> Iterator[Row]:
        if detector.runs[0].run.variant.masks:
            cells = (scores_of(detector, None, scores, name, detector.headline) for name in _SCORES)
            yield Row(stage_head(detector), tuple(cells))

    caption = (
        "Average precision × 100 by the IoU of masks, where a detector predicts them; every other table is of boxes."
    )
    groups = detector_groups(results.panels(), rows) if scores else ()
    return Table("masks", caption + range_caption(results), _COLUMNS, groups)


def build(results: StudyResults) -> dict[str, Any]:
    """Tables of AP, of masks, and beside published values."""
    return {
        "headline": headline_table(results),
        "has_masks": results.study.masks,
        "masks": mask_table(results),
        "published": published_table(results),
        "not_published": not_published(results),
    }


ACCURACY = Section("accuracy", "Accuracy", build)


def category_tables(results: StudyResults) -> list[Table]:
    """AP, AP50 and AP75 of every category at the headline test stage, a table per framework and backbone."""
    # Each run has one headline test stage, so run and category find the row.
    runs = (*(record.run for record in results.runs), *results.imported)
    headlines = {run.id: run.variant.headline for run in runs}
    scores = {
        (run, category): row
        for (run, stage, category), row in results.rows("ap_per_class", "test_stage", "category").items()
        if headlines.get(run) == stage
    }
    evaluated = list(dict.fromkeys(category for _, category in scores))
    known = [category for category in results.study.dataset.categories if category in evaluated]
    tables = []
    for title, detectors in results.panels_with_imported():
        columns = [Column("Category", kind="text")]
        cells: dict[str, list[Cell]] = {category: [] for category in dict.fromkeys([*known, *evaluated])}
        for detector in detectors:
            columns += [Column("AP", name.removeprefix("AP"), detector.label) for name in _OF_CATEGORIES]
            baseline = baseline_among(detector, detectors)
            for category, row in cells.items():
                row += [scores_of(detector, baseline, scores, name, category) for name in _OF_CATEGORIES]
        rows = tuple(Row(Cell(category), tuple(row)) for category, row in cells.items())
        caption = (
            f"{title}: AP × 100 of each category at the headline test stage, with the difference to the baseline of "
            "the same framework."
        )
        identifier = f"categories-{len(tables) + 1}"
        tables.append(Table(identifier, caption + range_caption(results), tuple(columns), (Group("", rows),)))
    return [table for table in tables if not table.empty]


CATEGORIES = Section("per-category", "Categories", lambda results: {"tables": category_tables(results)})
