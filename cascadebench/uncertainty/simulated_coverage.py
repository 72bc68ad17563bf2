"""How many 95% intervals hold in simulation with about as many images, classes and seeds.

``python -m benchmarks.coverage --write`` makes the table; ``docs/statistics.md`` says what was simulated.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pandas as pd

from cascadebench.uncertainty.crossings import CROSSING
from cascadebench.uncertainty.curves import QUANTITIES

TABLE = Path(__file__).with_suffix(".csv")
HOLDS = 93, 97
"""Percent of intervals between which a rule is taken to hold at 95%; more than a standard error of the simulation
beyond is worth a warning."""
FEWEST_INTERVALS = 50
"""Simulated intervals below which a row says nothing: curves of few images seldom cross exactly once."""


_CELL = ("images", "classes", "seeds")
_ONE = {"images": "image", "classes": "class", "seeds": "seed"}
Cell = tuple[int, int, int]
"""Images, classes and seeds."""


@lru_cache(maxsize=1)
def simulated() -> dict[str, dict[Cell, tuple[float, float]]]:
    """Percent of the intervals that held and its standard error if that is 95, by number and cell.

    Of equal and of unequal detectors those stand here of which less hold.
    """
    table = pd.read_csv(TABLE)
    table = table[(table["detectors"] != "real") & (table["intervals"] >= FEWEST_INTERVALS)]
    table = table.assign(percent=100 * table["held"] / table["intervals"]).sort_values("percent", ascending=False)
    found: dict[str, dict[Cell, tuple[float, float]]] = {}
    for row in table.itertuples():
        error = 100 * math.sqrt(0.05 * 0.95 / row.intervals)
        found.setdefault(row.number, {})[row.images, row.classes, row.seeds] = row.percent, error
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
    cells = simulated()["AP"]
    as_many = max(cell[2] for cell in cells if cell[2] <= seeds)
    known_images, known_classes = (sorted({cell[place] for cell in cells if cell[2] == as_many}) for place in (0, 1))
    fewer = [value for value in known_images if value <= images] or known_images[:1]
    more = [value for value in known_classes if value >= classes] or known_classes[-1:]
    return fewer[-1], more[0], as_many


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
    found = simulated().get(number, {}).get(nearest(images, classes, seeds))
    return found[0] if found else None


def coverage_warning(numbers: Iterable[str], images: int, classes: int, seeds: int) -> str:
    """One sentence where intervals of some numbers hold too seldom or too often in simulation; else empty.

    Parameters are those of :func:`simulated_coverage`.

    Examples
    --------
    >>> coverage_warning(["AP"], images=5000, classes=80, seeds=1)
    ''
    """
    cell = nearest(images, classes, seeds)
    found = {name: simulated()[name][cell] for name in numbers if cell in simulated().get(name, {})}
    narrow = {name: share for name, (share, error) in found.items() if share + error < HOLDS[0]}
    wide = {name: share for name, (share, error) in found.items() if share - error > HOLDS[1]}
    parts = [_part(narrow, "hold in simulation, not 95%")] if narrow else []
    parts += [_part(wide, "hold in simulation: they are wider than they need to be")] if wide else []
    words = ", ".join(f"{count} {name if count > 1 else _ONE[name]}" for name, count in zip(_CELL, cell, strict=True))
    fewer = "; fewer images were not simulated" if images < cell[0] else ""
    return f"With {words} {', and '.join(parts)}{fewer}." if parts else ""


def _part(shares: dict[str, float], words: str) -> str:
    ends = " to ".join(dict.fromkeys(f"{share:.0f}" for share in (min(shares.values()), max(shares.values()))))
    *names, last = shares
    listed = f"{', '.join(names)} and {last}" if names else last
    return f"about {ends}% of the 95% intervals of {listed} {words}"
