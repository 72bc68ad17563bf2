"""Tables of circumstances: protocol, effective values of the controls, dataset, versions and hardware."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from cascadebench.errors import InputError
from cascadebench.report.cells import ABSENT, Cell, Column, Group, Line, Row, Table, number, plain
from cascadebench.report.collect import RunRecord, StudyResults, framework_title
from cascadebench.variant import load_variant_card


def _settings(model: BaseModel, prefix: str = "") -> Iterator[Row]:
    """Every value of a part of the protocol, with what its docstring says."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            meaning = re.sub(r"[`\s]+", " ", field.description or "").strip()
            yield Row(Cell(prefix + name), (Cell(plain(value)), Cell(re.sub(r" ([,.;:])", r"\1", meaning))))


def protocol_table(results: StudyResults) -> Table:
    """Every value of the protocol, part by part."""
    protocol = results.study.protocol
    parts = {name: getattr(protocol, name) for name in type(protocol).model_fields}
    groups = tuple(Group(name, tuple(_settings(part))) for name, part in parts.items() if isinstance(part, BaseModel))
    columns = (Column("Setting", kind="text"), Column("Value", kind="text"), Column("Meaning", kind="text"))
    return Table("protocol-values", "Values that every run of the study shares.", columns, groups)


def _lines(values: dict[str, list[RunRecord]], several_labels: bool) -> Cell:
    """One value that all runs share, or every value with the runs that have it."""
    if not values:
        return Cell(ABSENT)
    if len(values) == 1:
        return Cell(next(iter(values)))
    by_label: dict[str, set[str]] = {}
    for text, records in values.items():
        for record in records:
            by_label.setdefault(record.label, set()).add(text)
    label_decides = several_labels and all(len(texts) == 1 for texts in by_label.values())
    notes = []
    for text, records in values.items():
        names = [r.label if label_decides else f"{r.label}, seed {r.run.seed}" for r in records]
        notes += [Line("; ".join(dict.fromkeys(names)), "muted"), Line(text)]
    return Cell("", tuple(notes))


def _grouped(records: Sequence[RunRecord], value: Callable[[RunRecord], Any]) -> dict[str, list[RunRecord]]:
    """Runs by the printed value that they have; those without one are left out."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        found = value(record)
        if found is not None:
            groups.setdefault(found, []).append(record)
    return groups


def _controls(record: RunRecord) -> dict[str, dict[str, Any]]:
    """Controls of a run by name; entries of another form are left out."""
    entries = record.files["controls"].get("controls", [])
    entries = entries if isinstance(entries, list) else []
    return {str(entry["name"]): entry for entry in entries if isinstance(entry, dict) and "name" in entry}


def _treatments(results: StudyResults) -> set[str]:
    """Names of the controls that the cards of the study's variants declare to change."""
    names: set[str] = set()
    for variant in {record.run.variant.name for record in results.runs}:
        try:
            names.update(load_variant_card(variant).treatment)
        except InputError:
            continue
    return names


class ControlComparison:
    """The effective values of all runs, side by side.

    Attributes
    ----------
    table : Table
        One row per control, one pair of columns per framework: value, and where it was read from.
    across : list of str
        Controls whose value for the same variant differs between frameworks.
    """

    def __init__(self, results: StudyResults) -> None:
        self.frameworks = list(results.study.file.frameworks)
        self.several_labels = len(results.labels) > 1
        self._read = [(record, _controls(record)) for record in results.runs]
        self._treatments = _treatments(results)
        self.across: list[str] = []
        self.between_variants: list[str] = []
        names = dict.fromkeys(name for _, controls in self._read for name in controls)
        groups: dict[str, list[Row]] = {}
        for name in names:
            groups.setdefault(name.partition(".")[0] if "." in name else "", []).append(self._row(name))
        self.count = len(names)
        columns = [Column("Control", kind="text")]
        for framework in self.frameworks:
            columns += [Column("Value", group=framework_title(framework), kind="text")]
            columns += [Column("Read from", group=framework_title(framework), kind="code")]
        self.table = Table(
            "control-values",
            "Effective values, read back from the objects that train and test.",
            tuple(columns),
            tuple(Group(title, tuple(rows)) for title, rows in groups.items()),
        )

    def _row(self, name: str) -> Row:
        cells, by_label = [], {}
        varies = False
        for framework in self.frameworks:
            have = {
                r.run.id: controls[name]
                for r, controls in self._read
                if r.run.framework == framework and name in controls
            }
            records = [record for record, _ in self._read if record.run.id in have]
            values = _grouped(records, lambda r, have=have: plain(have[r.run.id].get("value")))
            places = _grouped(records, lambda r, have=have: str(have[r.run.id].get("read_from", "")))
            varies |= len(values) > 1
            for text, found in values.items():
                for record in found:
                    by_label.setdefault(record.label, {}).setdefault(framework, set()).add(text)
            cells += [
                _lines(values, self.several_labels),
                Cell("", tuple(Line(place) for place in places)) if places else Cell(ABSENT),
            ]
        notes = []
        read = {framework for values in by_label.values() for framework in values}
        if any(len({frozenset(texts) for texts in values.values()}) > 1 for values in by_label.values()):
            self.across.append(name)
            notes.append(Line("≠ between frameworks", "differs"))
        if len(read) < len(self.frameworks):
            notes.append(Line("not read in every framework", "muted"))
        if varies:
            self.between_variants.append(name)
            declared = any(name == part or name.startswith(f"{part}.") for part in self._treatments)
            notes.append(Line("changed by a variant" + (", as its card declares" if declared else ""), "muted"))
        return Row(Cell(name, tuple(notes)), tuple(cells))


def dataset_table(results: StudyResults) -> Table:
    """Counts and checksum of each split, as prepared."""
    splits = results.lock.get("splits", {})
    rows = []
    for name, split in splits.items() if isinstance(splits, dict) else ():
        counts = [
            Cell(number(split.get(key), digits=0)) for key in ("images", "annotations", "crowd", "dropped", "clipped")
        ]
        rows.append(Row(Cell(name), (*counts, Cell(str(split.get("source_sha256") or ABSENT)))))
    titles = ("Images", "Annotations", "Crowd regions", "Dropped", "Clipped")
    columns = (
        Column("Split", kind="text"),
        *(Column(title) for title in titles),
        Column("SHA-256 of the annotations", kind="code"),
    )
    caption = "The dataset as every run reads it: boxes dropped for having no area, boxes clipped at the image border."
    return Table("dataset-splits", caption, columns, (Group("", tuple(rows)),))


def environment_table(results: StudyResults) -> Table:
    """Versions of packages, device and hardware of the trainings, framework by framework."""
    frameworks = list(results.study.file.frameworks)

    def row(name: str, value: Callable[[RunRecord], Any]) -> Row:
        cells = []
        for framework in frameworks:
            records = [record for record in results.runs if record.run.framework == framework]
            cells.append(_lines(_grouped(records, value), len(results.labels) > 1))
        return Row(Cell(name), tuple(cells))

    def part(record: RunRecord, key: str) -> dict[str, Any]:
        value = record.files["trained"].get(key) or (record.files["controls"].get(key))
        return value if isinstance(value, dict) else {}

    def text(value: Any) -> str | None:
        return None if value is None else plain(value)

    groups = []
    devices = [row("device", lambda r: text(r.files["trained"].get("device")))]
    for key, title, first in (("hardware", "Trained on", devices), ("versions", "Versions", [])):
        names = dict.fromkeys(str(name) for record in results.runs for name in part(record, key))
        rows = [*first, *(row(name, lambda r, k=key, n=name: text(part(r, k).get(n))) for name in names)]
        groups.append(Group(title, tuple(r for r in rows if any(cell != Cell(ABSENT) for cell in r.cells))))
    columns = (Column("Item", kind="text"), *(Column(framework_title(name), kind="text") for name in frameworks))
    return Table("environment-values", "What the runs were trained with.", columns, tuple(groups))
