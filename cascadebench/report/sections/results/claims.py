"""Claims: what sources claim, measured in every framework and on every backbone, with a verdict."""

import math
from collections.abc import Mapping
from typing import Any

from cascadebench.evidence.hypotheses import AGREEMENT, TITLE
from cascadebench.evidence.registration.standing import EXPLORATORY
from cascadebench.evidence.verdict_files import SEPARATOR
from cascadebench.report.data.study_results import StudyResults, framework_title
from cascadebench.report.parts.cells import (
    ABSENT,
    Cell,
    Column,
    Group,
    Line,
    Row,
    Table,
    Tone,
    note,
    text_columns,
)
from cascadebench.report.parts.readings import ReadMethod, read_methods, variants_of
from cascadebench.report.parts.registrations import registration_values
from cascadebench.report.parts.section import Section, has_runs
from cascadebench.report.parts.verdict_words import (
    condition,
    decided_with,
    details,
    interval,
    needed,
    seeds,
    shown_formula,
    with_unit,
    written,
)

WORDS = ("supported", "not supported", "inconclusive", "one seed", "not run", "not comparable")
"""Verdicts in the order in which they are counted."""
_TONES: dict[str, Tone] = {"supported": "up", "not supported": "down"}
_COLUMNS = (
    *text_columns("Measured in", "Verdict"),
    Column("Measured"),
    Column("95% interval"),
    Column("Adjusted interval"),
    *text_columns("Printed", "Holds if it is", "Reasons and notes"),
)


def strip_values(results: StudyResults) -> dict[str, Any]:
    """The strip of verdicts with how often each verdict occurs, how those read that are not comparable, and why."""
    rows = verdict_rows(results)
    apart = [row for row in rows if row["verdict"] == "not comparable"]
    reasons = dict.fromkeys(text for row in apart for text in row["reasons"].split(SEPARATOR) if text)
    return {
        "strip": strip(results),
        "verdict_counts": _counted([row["verdict"] for row in rows]),
        "readings": _counted([row["reading"] for row in apart]),
        "not_comparable": list(reasons),
    }


def _counted(words: list[str]) -> list[tuple[str, int]]:
    return [(word, words.count(word)) for word in WORDS if word in words]


def strip(results: StudyResults) -> list[dict[str, Any]]:
    """Every claim of the study in its order: what it says, when it holds, what it stands on, and its verdicts."""
    return [
        {
            "words": rows[0]["words"],
            "source": ", ".join(filter(None, (rows[0]["source"], rows[0]["place"]))),
            "own": rows[0]["source"] == TITLE,
            "formula": shown_formula(rows[0]),
            "condition": condition(rows[0]),
            "anchor": anchor(rows[0]),
            "under": _read_as(rows),
            "verdicts": [verdict for here in _by_place(rows) for verdict in _strip_verdicts(results, here)],
        }
        for rows in by_claim(results).values()
    ]


def verdict_rows(results: StudyResults) -> list[dict[str, Any]]:
    """Rows of ``verdicts.csv`` that are about what sources claim; how frameworks agree has a section of its own."""
    return [row for row in all_verdicts(results) if row["source"] != AGREEMENT]


def all_verdicts(results: StudyResults) -> list[dict[str, Any]]:
    """All rows of ``verdicts.csv``."""
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


def _read_as(rows: list[dict[str, Any]]) -> str:
    """What the methods of a claim are read as, or under how many readings it is asked; empty: they have none."""
    texts = {row["under"] for row in rows}
    return f"{len(texts)} readings, each with its verdict below" if len(texts) > 1 else rows[0]["under"]


def _by_place(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows of a claim by framework and backbone: one under every reading."""
    places: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        places.setdefault((row["framework"], row["backbone"]), []).append(row)
    return list(places.values())


def _strip_verdicts(results: StudyResults, rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The verdict in one framework on one backbone; over several readings one line for every word that occurs."""
    if len(rows) == 1:
        return [_verdict(results, rows[0])]
    found = []
    for word, count in _counted([row["verdict"] for row in rows]):
        of_word = [row for row in rows if row["verdict"] == word]
        unit, values = rows[0]["unit"], sorted(row["value"] for row in of_word if not math.isnan(row["value"]))
        ends = dict.fromkeys(written(value, unit, short=True) for value in (*values[:1], *values[-1:]))
        found.append(
            _verdict(results, of_word[0])
            | {"title": f"{measured_in(results, rows[0])}, {count} of {len(rows)} readings", "reading": ""}
            | {"value": with_unit(" to ".join(ends), unit) if ends else "", "interval": ""}
        )
    return found


def _verdict(results: StudyResults, row: Mapping[str, Any]) -> dict[str, str]:
    """What a study says about a claim in one framework on one backbone, in words; empty is what there is not."""
    unit = row["unit"]
    return {
        "title": measured_in(results, row),
        "seeds": seeds(row),
        "verdict": row["verdict"],
        "exploratory": "exploratory" if row["registered"] == EXPLORATORY else "",
        "reading": row["reading"] if row["reading"] != row["verdict"] else "",
        "value": "" if math.isnan(row["value"]) else with_unit(written(row["value"], unit, short=True), unit),
        "interval": interval(row, "" if math.isnan(row["holm_level"]) else "adjusted_", short=True),
        "published": "" if math.isnan(row["published"]) else written(row["published"], unit, short=True),
    }


def questions(results: StudyResults) -> int:
    """Number of questions whose intervals were adjusted for each other."""
    return sum(not math.isnan(row["holm_level"]) for row in all_verdicts(results))


def claim_tables(results: StudyResults) -> list[tuple[str, Table]]:
    """A table for every source, under its short name."""
    tables = []
    sources = dict.fromkeys(row["source"] for row in verdict_rows(results))
    for source in sources:
        groups = tuple(
            Group(rows[0]["words"], tuple(_row(results, row) for row in rows), anchor(rows[0]), details(rows[0]))
            for rows in by_claim(results).values()
            if rows[0]["source"] == source
        )
        caption = source if source == TITLE else f"Claims of {source}"
        caption += (
            ". Points are AP or recall × 100. The 95% interval is of the claim alone; the adjusted one, which the "
            "verdict reads, is for all claims and hypotheses of the study together."
        )
        if source != TITLE:
            caption += " Printed: the same quantity from the source's own numbers."
        tables.append((source, Table(f"claims-{len(tables) + 1}", caption, _COLUMNS, groups)))
    return tables


def methods_of_sources(results: StudyResults) -> tuple[list[list[ReadMethod]], list[ReadMethod]]:
    """For every source the methods that its claims are about and whose cards have readings, and the study's others."""
    methods, found = read_methods(results), []
    for source in dict.fromkeys(row["source"] for row in verdict_rows(results)):
        claims = [row["claim"] for row in verdict_rows(results) if row["source"] == source]
        found.append([methods[name] for name in variants_of(claims) if name in methods])
    told = {method.name for of_source in found for method in of_source}
    return found, [method for name, method in methods.items() if name not in told]


def _row(results: StudyResults, row: Mapping[str, Any]) -> Row:
    unit = row["unit"]
    verdict = [Line(f"here: {row['reading']}", "muted")] if row["reading"] not in ("", row["verdict"]) else []
    if row["unadjusted_reading"] not in ("", row["reading"]):
        verdict.append(Line(f"unadjusted: {row['unadjusted_reading']}", "muted"))
    verdict += note(needed(row))
    if row["registered"]:
        verdict.append(Line(row["registered"], "muted"))
    remarks = [Line(text) for text in row["reasons"].split(SEPARATOR) if text]
    notes = tuple(Line(text, "muted") for text in (decided_with(row), *row["notes"].split(SEPARATOR)) if text)
    if row["registered"] == EXPLORATORY and results.registrations:
        remarks.append(Line(f"exploratory: {row['registered_why']}", "muted"))
    p_value = row["adjusted_p_value"]
    cells = (
        Cell(row["verdict"], tuple(verdict), _TONES.get(row["verdict"], "")),
        Cell(with_unit(written(row["value"], unit), unit), note(seeds(row))),
        Cell(interval(row, "") or ABSENT),
        Cell(
            interval(row, "adjusted_") or ABSENT,
            note("" if math.isnan(p_value) else f"adjusted p {p_value:.2g}"),
        ),
        Cell(with_unit(written(row["published"], unit, short=True), unit)),
        Cell(condition(row)),
        Cell("", tuple(remarks), folded=notes),
    )
    read_as = tuple(Line(f"read as {text}", "muted") for text in row["under"].split(SEPARATOR) if text)
    return Row(Cell(measured_in(results, row), read_as), cells)


def build(results: StudyResults) -> dict[str, Any]:
    """A table for every source with the readings that it stands on, the other methods' readings, the family's size."""
    of_sources, others = methods_of_sources(results)
    tables = [(*pair, methods) for pair, methods in zip(claim_tables(results), of_sources, strict=True)]
    said = {"tables": tables, "other_methods": others, "questions": questions(results)}
    said["coverage_warning"] = results.coverage_warning(gaps_alone=True)
    return said | registration_values(results)


SECTION = Section("claims", "Claims", build, needs=has_runs)
