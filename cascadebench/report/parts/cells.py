"""Tables ready to print: their parts, and how values and differences are written."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, Self

from cascadebench.metrics.coco.rules import AP_AT_IOU

ABSENT = "–"
MINUS = "−"

Tone = Literal["", "muted", "up", "down", "bad", "differs"]


@dataclass(frozen=True)
class Line:
    """One line of a cell; the template gives every tone a look.

    `name` says in a downloaded table what the line is, where the text does not; `value` is the number that the text
    rounds, in the same unit.
    """

    text: str
    tone: Tone = ""
    name: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Cell:
    """A cell: its text, smaller lines under it, and the number that the text rounds, in the same unit.

    Lines that are `folded` are shown when asked for.
    """

    text: str
    notes: tuple[Line, ...] = ()
    tone: Tone = ""
    value: float | None = None
    folded: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column: title with an optional subscript, the group of columns that it belongs to, what its cells hold."""

    title: str
    subscript: str = ""
    group: str = ""
    kind: Literal["number", "text", "code"] = "number"


def text_columns(*titles: str) -> tuple[Column, ...]:
    """Columns of text."""
    return tuple(Column(title, kind="text") for title in titles)


def ap_columns(over: str = "at one IoU threshold, in percent") -> tuple[Column, ...]:
    """A column of AP for every IoU threshold."""
    return tuple(Column("AP", name.removeprefix("AP"), over) for name in AP_AT_IOU)


@dataclass(frozen=True)
class Row:
    """A row: its header cell and the others."""

    head: Cell
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """Rows under a common title; an empty title prints none. `anchor` is an id that links may lead to.

    `details` are folded away under the title: what each is, its text, and the address of a link or nothing.
    """

    title: str
    rows: tuple[Row, ...]
    anchor: str = ""
    details: tuple[tuple[str, str, str], ...] = ()


LONG_TABLE, MANY_ROWS = 60, 30
"""Rows from which a table is folded away until it is asked for, and from which its rows can be filtered."""


@dataclass(frozen=True)
class Table:
    """A table. `columns` starts with the column of the row headers."""

    id: str
    caption: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]

    @property
    def column_groups(self) -> list[tuple[str, int]]:
        """Titles of the groups of columns after the first, each with its width; empty if there are none."""
        spans = [(title, len(list(columns))) for title, columns in groupby(self.columns[1:], lambda c: c.group)]
        return spans if any(title for title, _ in spans) else []

    @property
    def row_count(self) -> int:
        """Number of rows in all groups."""
        return sum(len(group.rows) for group in self.groups)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to print."""
        return self.row_count == 0

    @property
    def folded(self) -> bool:
        """Whether it is too long to stand open among the others."""
        return self.row_count > LONG_TABLE

    @property
    def brief(self) -> str:
        """What it holds in a few words: how its caption begins."""
        return re.split(r"[,:;.](?: |$)", self.caption)[0]

    @property
    def filtered(self) -> bool:
        """Whether its rows can be filtered."""
        return self.row_count > MANY_ROWS


@dataclass(frozen=True)
class Spread:
    """Values of one quantity over the seeds."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, by_seed: Mapping[int, float]) -> Self:
        """Take the values of all seeds."""
        return cls(tuple(by_seed.values()))

    @classmethod
    def of_differences(cls, ours: Mapping[int, float], theirs: Mapping[int, float]) -> Self:
        """Differences seed by seed, over the seeds that both have."""
        return cls(tuple(value - theirs[seed] for seed, value in ours.items() if seed in theirs))

    @property
    def mean(self) -> float | None:
        """Mean over the seeds; None without values."""
        return math.fsum(self.values) / len(self.values) if self.values else None

    def range(self, scale: float, digits: int) -> str:
        """Smallest and largest value; empty for a single one."""
        if len(self.values) < 2:
            return ""
        return f"{number(min(self.values), scale, digits)}…{number(max(self.values), scale, digits)}"

    def range_line(self, scale: float, digits: int) -> Line:
        """The same as a line under the mean."""
        return Line(self.range(scale, digits), "muted", "range of the seeds")


def number(value: float | None, scale: float = 1.0, digits: int = 1) -> str:
    """Write a number with a true minus sign; an absent one is a dash."""
    if value is None or math.isnan(value):
        return ABSENT
    text = f"{value * scale:,.{digits}f}".replace(",", "\u202f")
    return text.replace("-", MINUS) if float(f"{value * scale:.{digits}f}") else text.lstrip("-")


def scaled(value: float | None, scale: float = 1.0) -> float | None:
    """The number behind a printed one, without the digits that only binary arithmetic adds."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value * scale:.10g}")


def number_cell(value: float | None, scale: float = 1.0, digits: int = 1, notes: tuple[Line, ...] = ()) -> Cell:
    """A cell with a number, which it keeps unrounded beside its text."""
    return Cell(number(value, scale, digits), notes, value=scaled(value, scale))


def points(value: float | None) -> str:
    """Write an AP between 0 and 1 as the field prints it: times 100, one decimal."""
    return number(value, 100, 1)


def signed_points(value: float | None) -> Line:
    """Write a difference of AP with its sign; the tone follows what is printed."""
    text, name, exact = points(value), "difference to the baseline", scaled(value, 100)
    if value is None or text in (ABSENT, "0.0"):
        return Line("" if text == ABSENT else "±0.0", "muted", name, exact)
    return Line(text, "down", name, exact) if value < 0 else Line(f"+{text}", "up", name, exact)


def note(text: str, tone: Tone = "muted") -> tuple[Line, ...]:
    """One line under a value, or none without a text."""
    return (Line(text, tone),) if text else ()


def ends_of(ends: tuple[float, float] | None) -> tuple[Line, ...]:
    """The interval of an AP: ``41.0 to 47.2``."""
    return note(" to ".join(points(end) for end in ends)) if ends else ()


def from_to(ends: tuple[float, float] | None) -> tuple[Line, ...]:
    """The interval of a difference: ``+4.3 to +10.2``."""
    return note(" to ".join(signed_points(end).text for end in ends)) if ends else ()


def score_cell(by_seed: Mapping[int, float], baseline: Mapping[int, float] | None = None) -> Cell:
    """An AP, its range over the seeds and the difference to `baseline`, paired by seed; None: it is the baseline."""
    spread = Spread.of(by_seed)
    notes = [spread.range_line(100, 1)]
    if baseline is not None:
        notes.append(signed_points(Spread.of_differences(by_seed, baseline).mean))
    return number_cell(spread.mean, 100, 1, tuple(line for line in notes if line.text))


def plain(value: Any) -> str:
    """Write a setting as a reader expects it: 6 digits, lists without brackets."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", MINUS) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(f"({plain(item)})" if isinstance(item, list | tuple) else plain(item) for item in value)
    return str(value)


def listing(words: Sequence[str]) -> str:
    """Join words as a sentence does: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
