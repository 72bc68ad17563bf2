"""Columns out of a JSON list of objects, every value checked, with the place of the first bad one."""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from cascadebench.core.errors import InputError


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)[:80]


def check_objects(entries: Any, where: str) -> list[dict[str, Any]]:
    """Return `entries` if it is a list of JSON objects; raises InputError otherwise.

    Parameters
    ----------
    where : str
        File and key of the list, which ``[3].bbox`` will follow: ``"val.json: annotations"``.
    """
    if not isinstance(entries, list):
        raise InputError(f"{where.rstrip(': ')}: a list is expected, found {_shown(entries)}")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{where}[{number}]: an object is expected, found {_shown(entry)}")
    return entries


def _values(entries: Sequence[dict[str, Any]], key: str, types: set[type], allowed: str, where: str) -> list[Any]:
    """The value of `key` in every entry; raises InputError at the first that is missing or of another type."""
    try:
        values = [entry[key] for entry in entries]
    except KeyError as error:
        number = next(n for n, entry in enumerate(entries) if key not in entry)
        raise InputError(f"{where}[{number}]: the key {key!r} is missing") from error
    # Types are compared exactly because True is an int to Python.
    if set(map(type, values)) - types:
        number = next(n for n, value in enumerate(values) if type(value) not in types)
        raise InputError(f"{where}[{number}].{key}: {allowed} is expected, found {_shown(values[number])}")
    return values


def texts(entries: Sequence[dict[str, Any]], key: str, where: str) -> list[str]:
    """Texts under `key`; raises InputError at the first entry that has none, or one that UTF-8 cannot hold."""
    values = _values(entries, key, {str}, "a text", where)
    for number, value in enumerate(values):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InputError(f"{where}[{number}].{key}: {_shown(value)} holds a half of a surrogate pair")
    return values


def integers(entries: Sequence[dict[str, Any]], key: str, where: str) -> np.ndarray:
    """Whole numbers under `key`, int64 [N]; raises InputError at the first entry that has none."""
    values = _values(entries, key, {int}, "a whole number", where)
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError as error:
        number = next(n for n, value in enumerate(values) if not -(2**63) <= value < 2**63)
        raise InputError(f"{where}[{number}].{key}: {_shown(values[number])} does not fit 64 bits") from error


def _floats(values: list[Any], key: str, where: str) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise InputError(f"{where}: {key}: a whole number is too large for a floating-point number") from error


def numbers(entries: Sequence[dict[str, Any]], key: str, where: str) -> np.ndarray:
    """Finite numbers under `key`, float64 [N]; raises InputError at the first entry that has none."""
    values = _values(entries, key, {int, float}, "a number", where)
    array = _floats(values, key, where)
    bad = ~np.isfinite(array)
    if bad.any():
        number = int(bad.argmax())
        raise InputError(f"{where}[{number}].{key}: a finite number is expected, found {_shown(values[number])}")
    return array


def boxes(entries: Sequence[dict[str, Any]], where: str) -> np.ndarray:
    """Boxes under ``bbox``, float64 [N, 4] as x, y, width, height in pixels, width and height at least 0.

    Raises
    ------
    InputError
        At the first entry without four finite numbers, or with a negative width or height.
    """
    allowed = "[x, y, width, height]"
    values = _values(entries, "bbox", {list}, allowed, where)
    numeric = not set(map(type, chain.from_iterable(values))) - {int, float}
    if set(map(len, values)) - {4} or not numeric:
        number = next(n for n, box in enumerate(values) if len(box) != 4 or set(map(type, box)) - {int, float})
        raise InputError(f"{where}[{number}].bbox: {allowed} is expected, found {_shown(values[number])}")
    array = _floats(values, "bbox", where).reshape(-1, 4)
    bad = ~np.isfinite(array).all(axis=1) | (array[:, 2:] < 0).any(axis=1)
    if bad.any():
        number = int(bad.argmax())
        raise InputError(
            f"{where}[{number}].bbox: finite numbers with width and height at least 0 are expected, "
            f"found {_shown(values[number])}"
        )
    return array


def run_lengths(entries: Sequence[dict[str, Any]], key: str, where: str) -> list[dict[str, Any]]:
    """Masks as objects of size and counts under `key`; raises InputError at the first entry that has none."""
    return _values(entries, key, {dict}, "run lengths, an object of size and counts,", where)


def check_distinct(values: Sequence[Any], key: str, where: str) -> None:
    """Raise InputError at the first value that came before."""
    seen: set[Any] = set()
    for number, value in enumerate(values):
        if value in seen:
            raise InputError(f"{where}[{number}].{key}: {_shown(value)} is given twice")
        seen.add(value)
