"""Specifications of charts as the page holds them: rows as columns, and what repeats written once.

The panels of a figure have axes, legends and many columns in common, and rows repeat every name. ``charts.js`` undoes
both for the chart that it draws.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

SHORTEST_PART = 40
"""Characters of JSON from which a repeated part is written once; a reference takes about ten."""


def packed(specifications: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Pack the specifications of a page.

    Returns
    -------
    dict
        ``charts``: the specifications by id, and ``parts``: a list. An object ``{"part": n}`` in either stands for the
        nth part. Each of a chart's ``datasets`` is its ``names`` and, in their order, its ``columns``: lists of values,
        or ``{"runs": [value, times, value, times, ...]}``; null is a value that a row does not have.
    """
    charts = {
        name: {**one, "datasets": {key: _columns(rows) for key, rows in one["datasets"].items()}}
        for name, one in specifications.items()
    }
    return _sharing(charts)


def _columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {"names": names, "columns": [_in_runs([row.get(name) for row in rows]) for name in names]}


def _in_runs(column: list[Any]) -> list[Any] | dict[str, list[Any]]:
    """The column, or its runs of equal values where that is shorter."""
    # 1, 1.0 and True are equal to Python, and not to a reader.
    runs = [list(equal) for _, equal in groupby(column, lambda value: (type(value), value))]
    return {"runs": [one for run in runs for one in (run[0], len(run))]} if 2 * len(runs) < len(column) else column


def _sharing(charts: dict[str, Any]) -> dict[str, Any]:
    """Write every part once that is in several places."""
    times: Counter[str] = Counter()
    places: dict[str, int] = {}
    parts: list[Any] = []

    def count(value: Any) -> None:
        text = json.dumps(value, sort_keys=True)
        if isinstance(value, dict | list) and len(text) >= SHORTEST_PART:
            times[text] += 1
            if times[text] == 1:  # what is inside of a part repeats with it
                for inner in value.values() if isinstance(value, dict) else value:
                    count(inner)

    def write(value: Any) -> Any:
        text = json.dumps(value, sort_keys=True)
        if times[text] < 2:
            return _each(value, write)
        if text not in places:
            parts.append(_each(value, write))
            places[text] = len(parts) - 1
        return {"part": places[text]}

    for part in (part for one in charts.values() for part in one.values()):
        count(part)
    return {"charts": {name: _each(one, write) for name, one in charts.items()}, "parts": parts}


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: change(inner) for name, inner in value.items()}
    return [change(inner) for inner in value] if isinstance(value, list) else value
