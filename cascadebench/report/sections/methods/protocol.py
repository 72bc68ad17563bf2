"""Protocol and controls: what should be equal, and what was read back from the objects that train and test."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from cascadebench.report.data.study_results import RunRecord, StudyResults, framework_title
from cascadebench.report.parts.cells import ABSENT, Cell, Column, Group, Line, Row, Table, plain, text_columns
from cascadebench.report.parts.section import Section, has_runs
from cascadebench.report.parts.shared_values import Values, by_label, shared_value


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
    """Put the controls of all runs side by side.

    Returns
    -------
    table : Table
        One row per control; for each framework its value and where that was read from.
    across : list of str
        Controls whose value for the same variant differs between frameworks.
    """
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


def build(results: StudyResults) -> dict[str, Any]:
    """The protocol and what was read back."""
    controls, across = compare_controls(results)
    return {
        "protocol": results.study.protocol,
        "overridden": bool(results.study.file.protocol_override),
        "settings": protocol_table(results),
        "controls": controls,
        "across": across,
    }


SECTION = Section("protocol", "Protocol and controls", build, entry="Protocol", needs=has_runs)
