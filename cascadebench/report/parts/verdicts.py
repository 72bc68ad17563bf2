"""Verdicts on claims in words: what ``verdicts.csv`` says, as the page writes it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascadebench.evidence.verdict_files import SEPARATOR
from cascadebench.report.data.study_results import StudyResults, framework_title
from cascadebench.report.parts.cells import ABSENT, number

WORDS = ("supported", "not supported", "inconclusive", "not run", "not comparable")
"""Verdicts in the order in which they are counted."""
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


@dataclass(frozen=True)
class StripVerdict:
    """What a study says about a claim in one framework on one backbone, in words.

    Attributes
    ----------
    title : str
        The framework, and the backbone if there are several.
    seeds : str
        Over how many seeds the value is a mean, such as ``1 seed``; empty if it has none.
    verdict : str
        One of :data:`WORDS`.
    reading : str
        What the interval says where the verdict is that it does not count; else empty.
    value, published : str
        As printed; empty if there is none.
    interval : str
        The interval, or why there is none; empty without a value.
    """

    title: str
    seeds: str
    verdict: str
    reading: str
    value: str
    interval: str
    published: str


@dataclass(frozen=True)
class StripClaim:
    """A claim in the strip: its words, its source, when it holds, the anchor of its rows, and its verdicts."""

    words: str
    source: str
    condition: str
    anchor: str
    verdicts: tuple[StripVerdict, ...]


def counts(results: StudyResults) -> list[tuple[str, int]]:
    """Number of verdicts of every kind that occurs."""
    return _counted([row["verdict"] for row in verdict_rows(results)])


def readings(results: StudyResults) -> list[tuple[str, int]]:
    """Number of readings of every kind among the verdicts that are not comparable."""
    return _counted([row["reading"] for row in verdict_rows(results) if row["verdict"] == "not comparable"])


def _counted(words: list[str]) -> list[tuple[str, int]]:
    return [(word, words.count(word)) for word in WORDS if word in words]


def not_comparable(results: StudyResults) -> list[str]:
    """Why verdicts are not comparable, each reason once."""
    reasons = [row["reasons"].split(SEPARATOR) for row in verdict_rows(results) if row["verdict"] == "not comparable"]
    return list(dict.fromkeys(text for texts in reasons for text in texts if text))


def strip(results: StudyResults) -> list[StripClaim]:
    """Every claim of the study with its verdicts, in its order."""
    return [
        StripClaim(
            rows[0]["words"],
            f"{rows[0]['source']}, {rows[0]['place']}",
            condition(rows[0]),
            anchor(rows[0]),
            tuple(_verdict(results, row) for row in rows),
        )
        for rows in by_claim(results).values()
    ]


def verdict_rows(results: StudyResults) -> list[dict[str, Any]]:
    """Rows of ``verdicts.csv``."""
    table = results.tables.get("verdicts")
    return [] if table is None else table.to_dict("records")


def by_claim(results: StudyResults) -> dict[str, list[dict[str, Any]]]:
    """The same by claim."""
    claims: dict[str, list[dict[str, Any]]] = {}
    for row in verdict_rows(results):
        claims.setdefault(row["claim"], []).append(row)
    return claims


def anchor(row: Mapping[str, Any]) -> str:
    """Anchor of a claim's rows in the page."""
    return f"claim-{row['claim']}"


def measured_in(results: StudyResults, row: Mapping[str, Any]) -> str:
    """Framework of a verdict, and its backbone if there are several."""
    return results.with_backbone(framework_title(row["framework"]), row["backbone"])


def _verdict(results: StudyResults, row: Mapping[str, Any]) -> StripVerdict:
    unit = row["unit"]
    reading = row["reading"] if row["reading"] != row["verdict"] else ""
    value = "" if math.isnan(row["value"]) else with_unit(written(row["value"], unit, short=True), unit)
    ends = interval(row, "adjusted_", short=True)
    published = "" if math.isnan(row["published"]) else written(row["published"], unit, short=True)
    return StripVerdict(measured_in(results, row), seeds(row), row["verdict"], reading, value, ends, published)


def seeds(row: Mapping[str, Any]) -> str:
    """Over how many seeds a value is a mean; empty if there is no value, or a counted one, which all seeds share."""
    if row["sampling"] == "exact" or not row["seeds"] >= 1:
        return ""
    return f"{row['seeds']:.0f} seed{'s' if row['seeds'] > 1 else ''}"


def condition(row: Mapping[str, Any]) -> str:
    """When a claim holds: above 0, below a ratio, between two values."""
    unit = row["unit"]
    low, high = (written(row[name], unit, short=True) for name in ("threshold", "threshold_high"))
    if row["direction"] == "within":
        return with_unit(f"between {low} and {high}", unit)
    side = "above" if row["direction"] == "greater" else "below"
    return f"{side} 0" if row["threshold"] == 0 else with_unit(f"{side} {low}", unit)


def interval(row: Mapping[str, Any], kind: str, *, short: bool = False) -> str:
    """An interval in brackets, or in words why there is none; without a value empty."""
    if math.isnan(row["value"]):
        return ""
    if row["sampling"] == "exact":
        return "exact"
    if math.isnan(row["samples"]):
        return "error unknown"
    if math.isnan(row[f"{kind}low"]):
        return "unbounded: too few samples"
    ends = (written(row[f"{kind}{end}"], row["unit"], short=short) for end in ("low", "high"))
    return f"[{', '.join(ends)}]"


def written(value: float, unit: str, *, short: bool = False) -> str:
    """A value in its unit; differences of fractions in points, with their sign."""
    scale, digits, signed = _UNITS.get(unit, (1, 4, False))
    text = number(value, scale, digits - (short and unit == "fraction"))
    return f"+{text}" if signed and text != ABSENT and float(f"{value * scale:.{digits}f}") > 0 else text


def with_unit(text: str, unit: str) -> str:
    """A written value with the words of its unit."""
    word = _UNIT_WORDS.get(unit, unit)
    return f"{text} {word}" if word and text != ABSENT else text
