"""How many 95% intervals hold in simulation with about as many images, classes and seeds.

``python -m benchmarks.coverage --write`` makes the table; ``docs/statistics.md`` says what was simulated.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pandas as pd

from cascadebench.uncertainty.crossings import CROSSING
from cascadebench.uncertainty.curves import QUANTITIES

TABLE = Path(__file__).with_suffix(".csv")
HOLDS = 93, 97
"""Percent of intervals between which a rule is taken to hold at 95%."""
FEWEST_INTERVALS = 50
"""Simulated intervals below which a row says nothing: curves of few images seldom cross exactly once."""


@lru_cache(maxsize=1)
def simulated() -> pd.DataFrame:
    """The table: a row for images, classes, detectors (``equal``, ``unequal``), seeds and number; real sets left out."""
    table = pd.read_csv(TABLE)
    return table[table["detectors"] != "real"]


def simulated_as(quantity: str, gap: str) -> str:
    """The simulated number nearest to a quantity of ``intervals.csv``: ``AP50``, ``gap of AP``, ``crossing``, ...

    Parameters
    ----------
    quantity, gap : str
        As in ``intervals.csv``; `gap` is empty for a test stage.
    """
    if quantity == CROSSING:
        return CROSSING
    low, high = QUANTITIES[quantity]
    name = "AP" if high - low > 0.4 else "AP50" if high <= 0.651 else "AP75" if high <= 0.801 else "AP90"
    kind = "gap of gaps of " if gap.startswith("(") and ") - (" in gap else "gap of " if gap else ""
    return kind + name


def nearest(images: int, classes: int, seeds: int) -> tuple[int, int, int]:
    """Images, classes and seeds of the simulation that stands for these: at most as many images, at least the classes.

    Where there is none the smallest, or the largest, stands for them.
    """
    known = {name: sorted(simulated()[name].unique()) for name in ("images", "classes", "seeds")}
    fewer = [value for value in known["images"] if value <= images]
    more = [value for value in known["classes"] if value >= classes]
    as_many = [value for value in known["seeds"] if value <= seeds]
    return int((fewer or known["images"])[-1 if fewer else 0]), int((more or known["classes"][-1:])[0]), int(as_many[-1])


def simulated_coverage(number: str, images: int, classes: int, seeds: int) -> float | None:
    """Percent of the 95% intervals of a number that held, for equal or for very unequal detectors, whichever is less.

    Parameters
    ----------
    number : str
        Of :func:`simulated_as`, or ``recall`` or ``gap of recall``.
    images, classes, seeds : int
        Of the study: validation images, classes with objects, and seeds from 1.

    Returns
    -------
    float or None
        None if it was not simulated, or too few sets had an interval.
    """
    key = (number, *nearest(images, classes, seeds))
    rows = simulated().set_index(["number", "images", "classes", "seeds"]).sort_index()
    rows = rows.loc[[key]] if key in rows.index else rows[:0]
    rows = rows[rows["intervals"] >= FEWEST_INTERVALS]
    return float((100 * rows["held"] / rows["intervals"]).min()) if len(rows) else None


def coverage_warning(numbers: Iterable[str], images: int, classes: int, seeds: int) -> str:
    """One sentence where intervals of some numbers hold too seldom or too often in simulation; else empty.

    Parameters are those of :func:`simulated_coverage`.

    Examples
    --------
    >>> coverage_warning(["AP"], images=5000, classes=80, seeds=1)
    ''
    """
    found = {name: simulated_coverage(name, images, classes, seeds) for name in numbers}
    outside = {name: round(share) for name, share in found.items() if share is not None and not _holds(share)}
    if not outside:
        return ""
    cell = nearest(images, classes, seeds)
    units = ("image", "class", "seed")
    words = ", ".join(f"{count} {_plural(unit, count)}" for count, unit in zip(cell, units, strict=True))
    shares = " to ".join(f"{share}" for share in dict.fromkeys((min(outside.values()), max(outside.values()))))
    fewer = "; fewer images were not simulated" if images < cell[0] else ""
    return (
        f"With {words} about {shares}% of the 95% intervals of {_listed(list(outside))} hold in simulation, not 95%{fewer}."
    )


def _holds(share: float) -> bool:
    return HOLDS[0] <= round(share) <= HOLDS[1]


def _plural(unit: str, count: int) -> str:
    return unit if count == 1 else {"class": "classes"}.get(unit, f"{unit}s")


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
