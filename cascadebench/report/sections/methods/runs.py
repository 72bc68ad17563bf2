"""Runs: their states, what was imported, which files are missing; what the numbers do not say; the commands again."""

from typing import Any

from cascadebench import __version__
from cascadebench.report.data.study_results import RunRecord, StudyResults
from cascadebench.report.parts.cells import ABSENT, Cell, Column, Group, Line, Row, Table, note, plain, text_columns
from cascadebench.report.parts.detector_rows import run_groups
from cascadebench.report.parts.section import Section, has_runs
from cascadebench.report.sections.results.summary import interval_warning


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


def build_runs(results: StudyResults) -> dict[str, Any]:
    """States, failures, imports, missing files."""
    return {
        "states": run_table(results),
        "failed": results.failed,
        "imported": imported_table(results),
        "missing": results.missing,
    }


RUNS = Section("runs", "Runs", build_runs)


LIMITS = Section("limits", "Limits", lambda results: {"warning": interval_warning(results)}, needs=has_runs)


def command_table(results: StudyResults) -> Table:
    """Command lines of every training and prediction, as they were given."""

    def cells(record: RunRecord) -> tuple[Cell, ...]:
        commands = (record.files[step].get("command") for step in ("trained", "predicted"))
        lines = tuple(Line(command) for command in commands if command and isinstance(command, str))
        return (Cell("", lines),) if lines else ()

    columns = (Column("Run", kind="text"), Column("Command lines", kind="code"))
    caption = "Command lines of each training and prediction, as the pipeline gave them in its folder."
    return Table("run-commands", caption, columns, run_groups(results, cells))


def build_repeat(results: StudyResults) -> dict[str, Any]:
    """The seeds, and the commands of each run."""
    return {"version": __version__, "seeds": results.study.file.seeds, "commands": command_table(results)}


REPEAT = Section("repeat", "Repeat", build_repeat)
