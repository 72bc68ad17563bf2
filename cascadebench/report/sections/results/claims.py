"""Claims: what sources claim, measured in every framework and on every backbone, with a verdict."""

import math
from collections.abc import Mapping
from typing import Any

from cascadebench.evidence.verdict_files import SEPARATOR
from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts import verdicts
from cascadebench.report.parts.cells import ABSENT, Cell, Column, Group, Line, Row, Table, Tone, note, text_columns
from cascadebench.report.parts.section import Section, has_runs

DECIDED = ("supported", "not supported")
"""Verdicts that a single training would be a weak ground for."""
_TONES: dict[str, Tone] = {"supported": "up", "not supported": "down"}
_COLUMNS = (
    *text_columns("Measured in", "Verdict"),
    Column("Measured"),
    Column("95% interval"),
    Column("Adjusted interval"),
    *text_columns("Printed", "Holds if it is", "Reasons and notes"),
)


def questions(results: StudyResults) -> int:
    """Number of questions whose intervals were adjusted for each other."""
    return sum(not math.isnan(row["holm_level"]) for row in verdicts.verdict_rows(results))


def claim_tables(results: StudyResults) -> list[tuple[str, Table]]:
    """A table for every source, under its short name."""
    tables = []
    sources = dict.fromkeys(row["source"] for row in verdicts.verdict_rows(results))
    for source in sources:
        groups = tuple(
            Group(rows[0]["words"], tuple(_row(results, row) for row in rows), verdicts.anchor(rows[0]))
            for rows in verdicts.by_claim(results).values()
            if rows[0]["source"] == source
        )
        caption = (
            f"Claims of {source}. Points are AP or recall × 100. The 95% interval is of the claim alone; the adjusted "
            "one, which the verdict reads, is for all claims of the study together. Printed: the same quantity from "
            "the source's own numbers, and where it makes the claim."
        )
        tables.append((source, Table(f"claims-{len(tables) + 1}", caption, _COLUMNS, groups)))
    return tables


def _row(results: StudyResults, row: Mapping[str, Any]) -> Row:
    unit = row["unit"]
    verdict = [Line(f"here: {row['reading']}", "muted")] if row["reading"] not in ("", row["verdict"]) else []
    if row["unadjusted_reading"] not in ("", row["reading"]):
        verdict.append(Line(f"unadjusted: {row['unadjusted_reading']}", "muted"))
    if row["verdict"] in DECIDED and row["seeds"] == 1 and row["sampling"] != "exact":
        verdict.append(Line("on one seed", "muted"))
    remarks = [Line(text) for text in row["reasons"].split(SEPARATOR) if text]
    remarks += [Line(text, "muted") for text in row["notes"].split(SEPARATOR) if text]
    p_value = row["adjusted_p_value"]
    cells = (
        Cell(row["verdict"], tuple(verdict), _TONES.get(row["verdict"], "")),
        Cell(verdicts.with_unit(verdicts.written(row["value"], unit), unit), note(verdicts.seeds(row))),
        Cell(verdicts.interval(row, "") or ABSENT),
        Cell(
            verdicts.interval(row, "adjusted_") or ABSENT,
            note("" if math.isnan(p_value) else f"adjusted p {p_value:.2g}"),
        ),
        Cell(verdicts.with_unit(verdicts.written(row["published"], unit, short=True), unit), note(row["place"])),
        Cell(verdicts.condition(row), note(row["threshold_reason"])),
        Cell("", tuple(remarks)),
    )
    return Row(Cell(verdicts.measured_in(results, row)), cells)


def build(results: StudyResults) -> dict[str, Any]:
    """A table for every source, and the number of questions that their intervals are adjusted for."""
    return {"tables": claim_tables(results), "questions": questions(results)}


SECTION = Section("claims", "Claims", build, needs=has_runs)
