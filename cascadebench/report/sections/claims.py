"""Claims in the report: a strip of verdicts for the top of the page, and a table for every source."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascadebench.evidence.verdict_files import SEPARATOR
from cascadebench.report.data.study_results import StudyResults, framework_title
from cascadebench.report.parts.cells import ABSENT, Cell, Column, Group, Line, Row, Table, Tone, number

WORDS = ("supported", "not supported", "inconclusive", "not run", "not comparable")
"""Verdicts in the order in which they are counted."""
DECIDED = ("supported", "not supported")
"""Verdicts that a single training would be a weak ground for."""
# Factor, decimals in the table and whether a sign is written, by unit of ``verdicts.csv``.
_UNITS = {
    "fraction": (100, 2, True),
    "score": (1, 3, True),
    "ratio": (1, 3, False),
    "count": (1, 0, False),
    "multiply-adds": (1e-9, 2, False),
    "s": (1, 4, False),
}
_UNIT_WORDS = {"fraction": "points", "ratio": "times", "multiply-adds": "GFLOPs", "count": "", "score": "", "s": "s"}
_TONES: dict[str, Tone] = {"supported": "up", "not supported": "down"}


@dataclass(frozen=True)
class Finding:
    """What a study says about a claim in one framework on one backbone, in words.

    Attributes
    ----------
    title : str
        The framework, and the backbone if there are several.
    seeds : str
        Over how many seeds the value is a mean, such as ``1 seed``; empty if it has none.
    word : str
        The verdict.
    reading : str
        What the interval says where the verdict is that it does not count; else empty.
    value, published : str
        As printed; empty if there is none.
    error : str
        The interval, or why there is none; empty without a value.
    """

    title: str
    seeds: str
    word: str
    reading: str
    value: str
    error: str
    published: str


@dataclass(frozen=True)
class StripClaim:
    """A claim in the strip: its words, its source, when it holds, the place that says more, and what was found."""

    words: str
    source: str
    condition: str
    place: str
    findings: tuple[Finding, ...]


def counts(results: StudyResults) -> list[tuple[str, int]]:
    """Number of verdicts of every kind that occurs."""
    return _counted([row["verdict"] for row in _rows(results)])


def readings(results: StudyResults) -> list[tuple[str, int]]:
    """Number of readings of every kind among the verdicts that are not comparable."""
    return _counted([row["reading"] for row in _rows(results) if row["verdict"] == "not comparable"])


def _counted(words: list[str]) -> list[tuple[str, int]]:
    return [(word, words.count(word)) for word in WORDS if word in words]


def not_comparable(results: StudyResults) -> list[str]:
    """Why verdicts are not comparable, each reason once."""
    reasons = [row["reasons"].split(SEPARATOR) for row in _rows(results) if row["verdict"] == "not comparable"]
    return list(dict.fromkeys(text for found in reasons for text in found if text))


def questions(results: StudyResults) -> int:
    """Number of questions whose intervals were adjusted for each other."""
    return sum(not math.isnan(row["holm_level"]) for row in _rows(results))


def strip(results: StudyResults) -> list[StripClaim]:
    """Every claim of the study with its verdicts, in its order."""
    return [
        StripClaim(
            rows[0]["words"],
            f"{rows[0]['source']}, {rows[0]['place']}",
            _condition(rows[0]),
            _place(rows[0]),
            tuple(_finding(results, row) for row in rows),
        )
        for rows in _by_claim(results).values()
    ]


def claim_tables(results: StudyResults) -> list[tuple[str, Table]]:
    """A table for every source, under its short name."""
    tables = []
    for source, identifier in _table_ids(results).items():
        groups = tuple(
            Group(rows[0]["words"], tuple(_row(results, row) for row in rows), _place(rows[0]))
            for rows in _by_claim(results).values()
            if rows[0]["source"] == source
        )
        caption = (
            f"Claims of {source}. Points are AP or recall × 100. The 95% interval is of the claim alone; the adjusted "
            "one, which the verdict reads, is for all claims of the study together. Printed: the same quantity from "
            "the source's own numbers, and where it makes the claim."
        )
        tables.append((source, Table(identifier, caption, _COLUMNS, groups)))
    return tables


_COLUMNS = (
    Column("Measured in", kind="text"),
    Column("Verdict", kind="text"),
    Column("Measured"),
    Column("95% interval"),
    Column("Adjusted interval"),
    Column("Printed", kind="text"),
    Column("Holds if it is", kind="text"),
    Column("Reasons and notes", kind="text"),
)


def _rows(results: StudyResults) -> list[dict[str, Any]]:
    found = results.tables.get("verdicts")
    return [] if found is None else found.to_dict("records")


def _by_claim(results: StudyResults) -> dict[str, list[dict[str, Any]]]:
    claims: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(results):
        claims.setdefault(row["claim"], []).append(row)
    return claims


def _table_ids(results: StudyResults) -> dict[str, str]:
    sources = dict.fromkeys(row["source"] for row in _rows(results))
    return {source: f"claims-{number}" for number, source in enumerate(sources, start=1)}


def _place(row: Mapping[str, Any]) -> str:
    """Where a claim's rows stand in the page."""
    return f"claim-{row['claim']}"


def _title(results: StudyResults, row: Mapping[str, Any]) -> str:
    title = framework_title(row["framework"])
    return f"{title}, {row['backbone']}" if len(results.study.file.backbones) > 1 else title


def _finding(results: StudyResults, row: Mapping[str, Any]) -> Finding:
    unit = row["unit"]
    reading = row["reading"] if row["reading"] != row["verdict"] else ""
    value = "" if math.isnan(row["value"]) else _with_unit(_written(row["value"], unit, short=True), unit)
    error = _error(row, "adjusted_", short=True)
    published = "" if math.isnan(row["published"]) else _written(row["published"], unit, short=True)
    return Finding(_title(results, row), _seeds(row), row["verdict"], reading, value, error, published)


def _row(results: StudyResults, row: Mapping[str, Any]) -> Row:
    unit = row["unit"]
    verdict = [Line(f"here: {row['reading']}", "muted")] if row["reading"] not in ("", row["verdict"]) else []
    if row["unadjusted_reading"] not in ("", row["reading"]):
        verdict.append(Line(f"unadjusted: {row['unadjusted_reading']}", "muted"))
    if row["verdict"] in DECIDED and row["seeds"] == 1 and row["sampling"] != "exact":
        verdict.append(Line("on one seed", "muted"))
    seeds = _seeds(row)
    remarks = [Line(text) for text in row["reasons"].split(SEPARATOR) if text]
    remarks += [Line(text, "muted") for text in row["notes"].split(SEPARATOR) if text]
    p_value = row["adjusted_p_value"]
    cells = (
        Cell(row["verdict"], tuple(verdict), _TONES.get(row["verdict"], "")),
        Cell(_with_unit(_written(row["value"], unit), unit), (Line(seeds, "muted"),) if seeds else ()),
        Cell(_error(row, "") or ABSENT),
        Cell(
            _error(row, "adjusted_") or ABSENT,
            () if math.isnan(p_value) else (Line(f"adjusted p {p_value:.2g}", "muted"),),
        ),
        Cell(_with_unit(_written(row["published"], unit, short=True), unit), (Line(row["place"], "muted"),)),
        Cell(_condition(row), (Line(row["threshold_reason"], "muted"),) if row["threshold_reason"] else ()),
        Cell("", tuple(remarks)),
    )
    return Row(Cell(_title(results, row)), cells)


def _seeds(row: Mapping[str, Any]) -> str:
    """Over how many seeds a value is a mean; empty if there is no value, or a counted one, which all seeds share."""
    if row["sampling"] == "exact" or not row["seeds"] >= 1:
        return ""
    return f"{row['seeds']:.0f} seed{'s' if row['seeds'] > 1 else ''}"


def _condition(row: Mapping[str, Any]) -> str:
    """When a claim holds: above 0, below a ratio, between two values."""
    unit = row["unit"]
    low, high = (_written(row[name], unit, short=True) for name in ("threshold", "threshold_high"))
    if row["direction"] == "within":
        return _with_unit(f"between {low} and {high}", unit)
    side = "above" if row["direction"] == "greater" else "below"
    return f"{side} 0" if row["threshold"] == 0 else _with_unit(f"{side} {low}", unit)


def _error(row: Mapping[str, Any], kind: str, *, short: bool = False) -> str:
    """An interval in brackets, or in words why there is none; without a value empty."""
    if math.isnan(row["value"]):
        return ""
    if row["sampling"] == "exact":
        return "exact"
    if math.isnan(row["samples"]):
        return "error unknown"
    if math.isnan(row[f"{kind}low"]):
        return "unbounded: too few samples"
    ends = (_written(row[f"{kind}{end}"], row["unit"], short=short) for end in ("low", "high"))
    return f"[{', '.join(ends)}]"


def _written(value: float, unit: str, *, short: bool = False) -> str:
    """A value in its unit; differences of fractions in points, with their sign."""
    scale, digits, signed = _UNITS.get(unit, (1, 4, False))
    text = number(value, scale, digits - (short and unit == "fraction"))
    return f"+{text}" if signed and text != ABSENT and float(f"{value * scale:.{digits}f}") > 0 else text


def _with_unit(text: str, unit: str) -> str:
    word = _UNIT_WORDS.get(unit, unit)
    return f"{text} {word}" if word and text != ABSENT else text
