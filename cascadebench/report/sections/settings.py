"""Tables of circumstances: protocol, effective values of the controls, dataset, versions and hardware."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from cascadebench.report.data.study_results import RunRecord, StudyResults, framework_title
from cascadebench.report.parts.cells import ABSENT, Cell, Column, Group, Line, Row, Table, number, plain

Values = Sequence[tuple[RunRecord, str]]
"""A printed value of each run that has one."""


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
    columns = (Column("Setting", kind="text"), Column("Value", kind="text"), Column("Meaning", kind="text"))
    return Table("protocol-values", "Values that every run of the study shares.", columns, groups)


def _by_label(values: Values) -> dict[str, set[str]]:
    """The values that occur, by label."""
    labels: dict[str, set[str]] = {}
    for record, text in values:
        labels.setdefault(record.label, set()).add(text)
    return labels


def _cell(values: Values) -> Cell:
    """The value that all runs share, or each value under the names of the runs that have it."""
    texts = list(dict.fromkeys(text for _, text in values))
    if len(texts) < 2:
        return Cell(texts[0] if texts else ABSENT)
    label_decides = all(len(found) == 1 for found in _by_label(values).values())
    notes = []
    for text in texts:
        records = [record for record, other in values if other == text]
        names = dict.fromkeys(r.label if label_decides else f"{r.label}, seed {r.run.seed}" for r in records)
        notes += [Line("; ".join(names), "muted"), Line(text)]
    return Cell("", tuple(notes))


@dataclass(frozen=True)
class Controls:
    """The effective values of all runs, side by side.

    Attributes
    ----------
    table : Table
        One row per control; for each framework its value and where that was read from.
    count : int
        Number of controls.
    across : tuple of str
        Controls whose value for the same variant differs between frameworks.
    """

    table: Table
    count: int
    across: tuple[str, ...]


def _readings(results: StudyResults) -> dict[str, list[tuple[RunRecord, str, str]]]:
    """Run, value and place of every reading, by control; entries of another form are left out."""
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
    for found in values.values():
        sets = _by_label(found).values()
        if any(len(texts) > 1 for texts in sets):
            notes.append(Line("varies between runs of a variant", "muted"))
        elif len(set().union(*sets)) > 1:
            notes.append(Line("changed by a variant" + (", as its card declares" if declared else ""), "muted"))
    return tuple(dict.fromkeys(notes))


def _differs_between_frameworks(values: dict[str, Values]) -> bool:
    """Whether a variant that several frameworks have does not have the same values in them."""
    by_label: dict[str, set[frozenset[str]]] = {}
    for found in values.values():
        for label, texts in _by_label(found).items():
            by_label.setdefault(label, set()).add(frozenset(texts))
    return any(len(sets) > 1 for sets in by_label.values())


def compare_controls(results: StudyResults) -> Controls:
    """Put the controls of all runs side by side."""
    frameworks = list(results.study.file.frameworks)
    treatments = frozenset().union(*(planned.treatment for planned in results.study.runs))
    readings = _readings(results)
    groups: dict[str, list[Row]] = {}
    across = []
    for name, found in readings.items():
        values, cells = {}, []
        for framework in frameworks:
            here = [reading for reading in found if reading[0].run.framework == framework]
            values[framework] = [(record, text) for record, text, _ in here]
            places = dict.fromkeys(place for _, _, place in here)
            cells += [_cell(values[framework]), Cell("" if places else ABSENT, tuple(Line(place) for place in places))]
        if _differs_between_frameworks(values):
            across.append(name)
        part = name.partition(".")[0] if "." in name else ""
        groups.setdefault(part, []).append(Row(Cell(name, _notes(values, name in treatments)), tuple(cells)))
    columns = [Column("Control", kind="text")]
    for title in map(framework_title, frameworks):
        columns += [Column("Value", group=title, kind="text"), Column("Read from", group=title, kind="code")]
    parts = tuple(Group(title, tuple(rows)) for title, rows in groups.items())
    caption = "Effective values, read back from the objects that train and test."
    return Controls(Table("control-values", caption, tuple(columns), parts), len(readings), tuple(across))


def dataset_table(results: StudyResults) -> Table:
    """Counts of each split, as prepared."""
    splits = results.lock.get("splits")
    rows = []
    for name, split in splits.items() if isinstance(splits, dict) else ():
        counts = split if isinstance(split, dict) else {}
        cells = [_count(counts.get(key)) for key in ("images", "annotations", "crowd", "dropped", "clipped")]
        rows.append(Row(Cell(name), tuple(cells)))
    titles = ("Images", "Annotations", "Crowd regions", "Dropped", "Clipped")
    columns = (Column("Split", kind="text"), *(Column(title) for title in titles))
    caption = "The dataset as every run reads it: boxes dropped for having no area, boxes clipped at the image border."
    return Table("dataset-splits", caption, columns, (Group("", tuple(rows)),))


def _count(value: Any) -> Cell:
    return Cell(number(value, digits=0) if isinstance(value, int) else ABSENT if value is None else plain(value))


def _note(items: dict[str, list[tuple[RunRecord, str]]], record: RunRecord, values: dict[str, Any]) -> None:
    """Add what a run has to the values by item."""
    for name, value in values.items():
        if value is not None:
            items.setdefault(str(name), []).append((record, plain(value)))


def environment_table(results: StudyResults) -> Table:
    """Device, hardware and versions of packages, framework by framework."""
    frameworks = list(results.study.file.frameworks)
    items: dict[str, dict[str, list[tuple[RunRecord, str]]]] = {"Trained on": {}, "Predicted on": {}, "Versions": {}}
    for record in results.runs:
        versions: dict[str, Any] = {}
        for title, manifest in (("Trained on", record.files["trained"]), ("Predicted on", record.files["predicted"])):
            hardware = manifest.get("hardware")
            _note(items[title], record, {"device": manifest.get("device")})
            _note(items[title], record, hardware if isinstance(hardware, dict) else {})
        for name in ("controls", "trained"):
            part = record.files[name].get("versions")
            versions |= part if isinstance(part, dict) else {}
        _note(items["Versions"], record, versions)
    if items["Predicted on"] == items["Trained on"]:
        items = {"Trained and predicted on": items["Trained on"], "Versions": items["Versions"]}
    groups = []
    for title, values in items.items():
        rows = []
        for name, pairs in values.items():
            here = ([pair for pair in pairs if pair[0].run.framework == framework] for framework in frameworks)
            rows.append(Row(Cell(name), tuple(_cell(found) for found in here)))
        groups.append(Group(title, tuple(rows)))
    columns = (Column("Item", kind="text"), *(Column(framework_title(name), kind="text") for name in frameworks))
    return Table("environment-values", "What the runs were trained with.", columns, tuple(groups))
