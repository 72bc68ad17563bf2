"""Repeat: the commands that make the study's results again, and those that made these."""

from typing import Any

from cascadebench import __version__
from cascadebench.report.data.study_results import RunRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Line, Table
from cascadebench.report.parts.detector_rows import run_groups
from cascadebench.report.parts.section import Section


def command_table(results: StudyResults) -> Table:
    """Command lines of every training and prediction, as they were given."""

    def cells(record: RunRecord) -> tuple[Cell, ...]:
        commands = (record.files[step].get("command") for step in ("trained", "predicted"))
        lines = tuple(Line(command) for command in commands if command and isinstance(command, str))
        return (Cell("", lines),) if lines else ()

    columns = (Column("Run", kind="text"), Column("Command lines", kind="code"))
    caption = "Command lines of each training and prediction, as the pipeline gave them in its folder."
    return Table("run-commands", caption, columns, run_groups(results, cells))


def build(results: StudyResults) -> dict[str, Any]:
    """The seeds, and the commands of each run."""
    return {"version": __version__, "seeds": results.study.file.seeds, "commands": command_table(results)}


SECTION = Section("repeat", "Repeat", build)
