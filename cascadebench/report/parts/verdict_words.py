"""How a row of ``verdicts.csv`` is written: its value, its intervals, when it holds, and its details."""

import math
from collections.abc import Mapping
from typing import Any

from cascadebench.evidence.power.measured import MOST_IMAGES, MOST_SEEDS
from cascadebench.report.parts.cells import ABSENT, MINUS, number

# Factor, decimals in the table and whether a sign is written, by unit of ``verdicts.csv``.
_UNITS = {
    "fraction": (100, 2, True),
    "score": (1, 3, True),
    "share": (1, 3, True),
    "ratio": (1, 3, False),
    "count": (1, 0, False),
    "multiply-adds": (1e-9, 2, False),
    "s": (1, 4, False),
}
_UNIT_WORDS = {
    "fraction": "points",
    "ratio": "times",
    "multiply-adds": "GFLOPs",
    "count": "",
    "score": "",
    "share": "",
    "s": "s",
}


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
    if kind and math.isnan(row["holm_level"]):
        return ""
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


def decided_with(row: Mapping[str, Any]) -> str:
    """The effect, or the margin, that the study decides on a question with 80%; empty if it has no scatter."""
    if math.isnan(row["least_effect"]):
        return ""
    effect = with_unit(written(row["least_effect"], row["unit"]).lstrip("+"), row["unit"])
    if math.isnan(row["margin"]):
        return f"decided with 80%: a true value {effect} from the threshold"
    return f"decided with 80%: a margin of {effect}, if the true difference is zero"


def needed(row: Mapping[str, Any]) -> str:
    """The seeds or images that would decide what was measured; empty for what is decided."""
    if not row["seeds_needed"]:
        return ""
    seeds, images = (float(row[name] or "nan") for name in ("seeds_needed", "images_needed"))
    enough = [f"{seeds:.0f} seeds"] if math.isfinite(seeds) else []
    enough += [f"{images:,.0f} images"] if math.isfinite(images) else []
    if enough:
        return f"{' or '.join(enough)} would decide it with 80%"
    more = "" if math.isnan(images) else f" or {MOST_IMAGES} times the images"
    return f"{MOST_SEEDS} seeds{more} would not decide it"


def details(row: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """What a claim is in full: its formula, when it holds and why there, and where it is made."""
    holds = f"Holds {condition(row)}." + (f" {row['threshold_reason']}" if row["threshold_reason"] else "")
    source = ", ".join(filter(None, (row["source"], row["place"])))
    return ("Formula", shown_formula(row), ""), ("Threshold", holds, ""), ("Source", source, row["link"])


def shown_formula(row: Mapping[str, Any]) -> str:
    """The formula of a claim's quantity, with true minus signs."""
    return row["formula"].replace(" - ", f" {MINUS} ")
