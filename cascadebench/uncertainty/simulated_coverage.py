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


_CELL = ("images", "classes", "seeds")
_ONE = {"images": "image", "classes": "class", "seeds": "seed"}
Cell = tuple[int, int, int]
"""Images, classes and seeds."""


@lru_cache(maxsize=1)
def simulated() -> dict[str, dict[Cell, float]]:
    """Percent of the intervals that held, by number and cell; of equal and unequal detectors, whichever is less."""
    table = pd.read_csv(TABLE)
    table = table[(table["detectors"] != "real") & (table["intervals"] >= FEWEST_INTERVALS)]
    shares = (100 * table["held"] / table["intervals"]).groupby([table[name] for name in ("number", *_CELL)]).min()
    found: dict[str, dict[Cell, float]] = {}
    for (number, *cell), share in shares.items():
        found.setdefault(number, {})[tuple(cell)] = share
    return found


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


def nearest(images: int, classes: int, seeds: int) -> Cell:
    """The simulation that stands for so many: at most as many images and seeds, at least as many classes.

    Where there is none the fewest images, or the most classes, stand for them.
    """
    known = [sorted(set(values)) for values in zip(*simulated()["AP"], strict=True)]
    fewer, more, as_many = (
        [value for value in known[0] if value <= images],
        [value for value in known[1] if value >= classes],
        [value for value in known[2] if value <= seeds],
    )
    return (fewer or known[0][:1])[-1], (more or known[1][-1:])[0], as_many[-1]


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
    return simulated().get(number, {}).get(nearest(images, classes, seeds))


def coverage_warning(numbers: Iterable[str], images: int, classes: int, seeds: int) -> str:
    """One sentence where intervals of some numbers hold too seldom or too often in simulation; else empty.

    Parameters are those of :func:`simulated_coverage`.

    Examples
    --------
    >>> coverage_warning(["AP"], images=5000, classes=80, seeds=1)
    ''
    """
    found = {name: simulated_coverage(name, images, classes, seeds) for name in numbers}
    shares = {name: round(share) for name, share in found.items() if share is not None}
    outside = {name: share for name, share in shares.items() if not HOLDS[0] <= share <= HOLDS[1]}
    if not outside:
        return ""
    cell = nearest(images, classes, seeds)
    words = ", ".join(f"{count} {name if count > 1 else _ONE[name]}" for name, count in zip(_CELL, cell, strict=True))
    percent = " to ".join(f"{share}" for share in dict.fromkeys((min(outside.values()), max(outside.values()))))
    fewer = "; fewer images were not simulated" if images < cell[0] else ""
    *names, last = outside
    listed = f"{', '.join(names)} and {last}" if names else last
    return f"With {words} about {percent}% of the 95% intervals of {listed} hold in simulation, not 95%{fewer}."


def _holds(share: float) -> bool:
    return HOLDS[0] <= round(share) <= HOLDS[1]
