"""Runs: the state of each, why some failed, what was imported, and which files are missing."""

from typing import Any

from cascadebench.report.data.study_results import RunRecord, StudyResults
from cascadebench.report.parts.cells import ABSENT, Cell, Column, Group, Line, Row, Table, note, plain, text_columns
from cascadebench.report.parts.detector_rows import run_groups
from cascadebench.report.parts.section import Section


def run_table(results: StudyResults) -> Table:
    """State of every run, with its id."""

    def cells(record: RunRecord) -> tuple[Cell, ...]:
        state = Cell(record.state, tone="bad" if record.state == "failed" else "")
        return state, Cell(record.detail), Cell(record.id)

    columns = (*text_columns("Run", "State", "Detail"), Column("Folder under results/runs/", kind="code"))
    return Table("run-states", "State of every run of the study.", columns, run_groups(results, cells))


def imported_table(results: StudyResults) -> Table:
    """Where imported detections come from."""
    rows = []
    for file in (run.file for run in results.imported):
        made = ", ".join(f"{key}: {plain(value)}" for key, value in file.made_with.items())
        sources = tuple(Line(f"{source.name} {source.sha256}", "muted") for source in file.files)
        cells = (Cell(file.notes or ABSENT), Cell(made or ABSENT), Cell("", sources), Cell(file.time))
        rows.append(Row(Cell(file.title, note(file.name)), (*cells, Cell(file.ground_truth_sha256))))
    columns = (
        *text_columns("Detector", "Notes", "Run here with"),
        Column("Files and their SHA-256", kind="code"),
        Column("Imported", kind="text"),
        Column("SHA-256 of the ground truth", kind="code"),
    )
    caption = (
        "Detections of models from elsewhere, on the same images by the same evaluator. No protocol, audit or seed "
        "stands behind them, so a difference to them is no finding about a method."
    )
    return Table("imported", caption, columns, (Group("", tuple(rows)),))


def build(results: StudyResults) -> dict[str, Any]:
    """States, failures, imports, missing files."""
    return {
        "states": run_table(results),
        "failed": results.failed,
        "imported": imported_table(results),
        "missing": results.missing,
    }


SECTION = Section("runs", "Runs", build)
