"""Categories: AP of every category."""

from typing import Any

from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.caveats import range_caption
from cascadebench.report.parts.cells import Cell, Column, Group, Row, Table
from cascadebench.report.parts.detector_rows import baseline_among, scores_of
from cascadebench.report.parts.section import Section

_SCORES = ("AP", "AP50", "AP75")


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
            columns += [Column("AP", name.removeprefix("AP"), detector.label) for name in _SCORES]
            baseline = baseline_among(detector, detectors)
            for category, row in cells.items():
                row += [scores_of(detector, baseline, scores, name, category) for name in _SCORES]
        rows = tuple(Row(Cell(category), tuple(row)) for category, row in cells.items())
        caption = (
            f"{title}: AP × 100 of each category at the headline test stage, with the difference to the baseline of "
            "the same framework."
        )
        identifier = f"categories-{len(tables) + 1}"
        tables.append(Table(identifier, caption + range_caption(results), tuple(columns), (Group("", rows),)))
    return [table for table in tables if not table.empty]


def build(results: StudyResults) -> dict[str, Any]:
    """The tables of categories."""
    return {"tables": category_tables(results)}


SECTION = Section("per-category", "Categories", build)
