"""The audit of the controls: a table for every kind of finding, with both values and where they were read."""

import json
from collections.abc import Sequence
from typing import Any

from cascadebench.controls.findings import Finding, FindingKind, grouped
from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.cells import Cell, Group, Line, Row, Table, note, plain, text_columns
from cascadebench.report.parts.section import Section, has_runs

# Kind of finding, id of its table, caption, title of the column of reasons.
TABLES: tuple[tuple[FindingKind, str, str, str], ...] = (
    ("violation", "audit-violations", "Violations: what differs and must not.", "What is wrong"),
    ("accepted", "audit-accepted", "Accepted violations, with the reason that the study gives.", "Why it is accepted"),
    (
        "framework difference",
        "audit-frameworks",
        "Differences between frameworks, with the reason that the control's definition states.",
        "Why the frameworks differ",
    ),
    ("own rule", "audit-rules", "The framework's own rules, which the protocol keeps.", "Why it may differ"),
)


def audit_tables(results: StudyResults) -> list[Table]:
    """A table for every kind of finding that the audit has."""
    if results.audit is None:
        return []
    titles = {record.id: record.title for record in results.runs} | {"protocol": "the protocol"}
    tables = []
    for kind, name, caption, reason in TABLES:
        rows = tuple(_row(group, titles) for group in grouped(results.audit.of_kind(kind)))
        columns = text_columns("Control", "Runs", "Value", "Compared with", "Value", reason)
        if rows:
            tables.append(Table(name, caption, columns, (Group("", rows),)))
    return tables


def _row(group: Sequence[Finding], titles: dict[str, str]) -> Row:
    first = group[0]
    value, other = plain(first.value), plain(first.other)
    if value == other:  # equal as a reader expects them, but not to the last digit
        value, other = json.dumps(first.value), json.dumps(first.other)
    cells = (
        Cell("", _runs([finding.run for finding in group], titles)),
        _value(value if first.read_from else "", first.read_from),
        Cell("", _runs([finding.other_run for finding in group], titles)),
        _value(other if first.other_run else "", first.other_read_from),
        Cell(first.reason),
    )
    return Row(Cell(first.control or "all controls", tone="bad" if first.kind == "violation" else ""), cells)


def _runs(identifiers: Sequence[str], titles: dict[str, str]) -> tuple[Line, ...]:
    names = dict.fromkeys(titles.get(identifier, identifier) for identifier in identifiers if identifier)
    return tuple(Line(name) for name in names)


def _value(text: str, read_from: str) -> Cell:
    return Cell(text, note(read_from))


def build(results: StudyResults) -> dict[str, Any]:
    """The verdict of the audit and its findings."""
    return {"audit": results.audit, "findings": audit_tables(results)}


SECTION = Section("audit", "Controls audit", build, needs=has_runs)
