"""Protocol and controls: what should be equal, what was read back from the objects that train and test, the audit."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from cascadebench.controls.findings import Finding, FindingKind, grouped
from cascadebench.report.data.study_results import RunRecord, StudyResults, framework_title
from cascadebench.report.parts.cells import ABSENT, Cell, Column, Group, Line, Row, Table, note, plain, text_columns
from cascadebench.report.parts.detector_rows import Values, by_label, shared_value
from cascadebench.report.parts.section import Section, has_runs


def _settings(model: BaseModel, prefix: str = "") -> Iterator[Row]:
    """Every value of a part of the protocol, with what its docstring says."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            meaning = re.sub(r"\s+", " ", (field.description or "").replace("`", "")).strip()
            yield Row(Cell(prefix + name), (Cell(plain(value)), Cell(meaning)))


def protocol_table(results: StudyResults) -> Table:
    """Every value of the protocol, part by part."""
    protocol = results.study.protocol
    parts = {name: getattr(protocol, name) for name in type(protocol).model_fields}
    groups = tuple(Group(name, tuple(_settings(part))) for name, part in parts.items() if isinstance(part, BaseModel))
    columns = text_columns("Setting", "Value", "Meaning")
    return Table("protocol-values", "Values that every run of the study shares.", columns, groups)


def _readings(results: StudyResults) -> dict[str, list[tuple[RunRecord, str, str]]]:
    """Run, value and source of every reading, by control; entries of another form are left out."""
    readings: dict[str, list[tuple[RunRecord, str, str]]] = {}
    for record in results.runs:
        entries = record.files["controls"].get("controls")
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and "name" in entry:
                reading = (record, plain(entry.get("value")), str(entry.get("read_from", "")))
                readings.setdefault(str(entry["name"]), []).append(reading)
    return readings


def _notes(values: dict[str, Values], declared: bool) -> tuple[Line, ...]:
    """What the reader of a control must notice; `values` by framework."""
    notes = []
    if _differs_between_frameworks(values):
        notes.append(Line("≠ between frameworks", "differs"))
    if not all(values.values()):
        notes.append(Line("not read in every framework", "muted"))
    for of_framework in values.values():
        sets = by_label(of_framework).values()
        if any(len(texts) > 1 for texts in sets):
            notes.append(Line("varies between runs of a variant", "muted"))
        elif len(set().union(*sets)) > 1:
            notes.append(Line("changed by a variant" + (", as its card declares" if declared else ""), "muted"))
    return tuple(dict.fromkeys(notes))


def _differs_between_frameworks(values: dict[str, Values]) -> bool:
    """Whether a variant that several frameworks have does not have the same values in them."""
    sets: dict[str, set[frozenset[str]]] = {}
    for of_framework in values.values():
        for label, texts in by_label(of_framework).items():
            sets.setdefault(label, set()).add(frozenset(texts))
    return any(len(of_label) > 1 for of_label in sets.values())


def compare_controls(results: StudyResults) -> tuple[Table, list[str]]:
    """The controls of all runs side by side, and those whose value for the same variant differs between frameworks."""
    frameworks = list(results.study.file.frameworks)
    treatments = frozenset().union(*(planned.treatment for planned in results.study.runs))
    readings = _readings(results)
    groups: dict[str, list[Row]] = {}
    across = []
    for name, of_control in readings.items():
        values, cells = {}, []
        for framework in frameworks:
            here = [reading for reading in of_control if reading[0].run.framework == framework]
            values[framework] = [(record, text) for record, text, _ in here]
            sources = dict.fromkeys(source for _, _, source in here)
            cells += [shared_value(values[framework]), Cell("" if here else ABSENT, tuple(map(Line, sources)))]
        if _differs_between_frameworks(values):
            across.append(name)
        part = name.partition(".")[0] if "." in name else ""
        groups.setdefault(part, []).append(Row(Cell(name, _notes(values, name in treatments)), tuple(cells)))
    columns = [Column("Control", kind="text")]
    for title in map(framework_title, frameworks):
        columns += [Column("Value", group=title, kind="text"), Column("Read from", group=title, kind="code")]
    parts = tuple(Group(title, tuple(rows)) for title, rows in groups.items())
    caption = "Effective values, read back from the objects that train and test."
    return Table("control-values", caption, tuple(columns), parts), across


def build_protocol(results: StudyResults) -> dict[str, Any]:
    """The protocol and what was read back."""
    controls, across = compare_controls(results)
    return {
        "protocol": results.study.protocol,
        "overridden": bool(results.study.file.protocol_override),
        "settings": protocol_table(results),
        "controls": controls,
        "across": across,
    }


PROTOCOL = Section("protocol", "Protocol and controls", build_protocol, entry="Protocol", needs=has_runs)


# Kind of finding, id of its table, caption, title of the column of reasons.
_FINDINGS: tuple[tuple[FindingKind, str, str, str], ...] = (
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
    for kind, name, caption, reason in _FINDINGS:
        rows = tuple(_finding_row(group, titles) for group in grouped(results.audit.of_kind(kind)))
        columns = text_columns("Control", "Runs", "Value", "Compared with", "Value", reason)
        if rows:
            tables.append(Table(name, caption, columns, (Group("", rows),)))
    return tables


def _finding_row(group: Sequence[Finding], titles: dict[str, str]) -> Row:
    first = group[0]
    value, other = plain(first.value), plain(first.other)
    if value == other:  # equal as a reader expects them, but not to the last digit
        value, other = json.dumps(first.value), json.dumps(first.other)
    cells = (
        Cell("", _runs([finding.run for finding in group], titles)),
        Cell(value if first.read_from else "", note(first.read_from)),
        Cell("", _runs([finding.other_run for finding in group], titles)),
        Cell(other if first.other_run else "", note(first.other_read_from)),
        Cell(first.reason),
    )
    return Row(Cell(first.control or "all controls", tone="bad" if first.kind == "violation" else ""), cells)


def _runs(identifiers: Sequence[str], titles: dict[str, str]) -> tuple[Line, ...]:
    names = dict.fromkeys(titles.get(identifier, identifier) for identifier in identifiers if identifier)
    return tuple(Line(name) for name in names)


AUDIT = Section(
    "audit",
    "Controls audit",
    lambda results: {"audit": results.audit, "findings": audit_tables(results)},
    needs=has_runs,
)
