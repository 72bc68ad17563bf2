"""What a control is, and the kinds of rows that the tables of controls are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from cascadebench.study.run import Run

Kind = Literal["protocol", "equal", "framework", "record"]


@dataclass(frozen=True)
class ControlDefinition:
    """One control, the same in every framework."""

    name: str
    """Common name, ``group.name``."""
    meaning: str
    """One sentence."""
    unit: str = ""
    """``pixels``, ``iterations``, ... or empty for counts, shares and names."""
    kind: Kind = "protocol"
    """``protocol``: the protocol (or backbone, or variant) says what it must be, in every framework. ``equal``: nobody
    says what it must be, but it is the same in all runs that it is compared over. ``framework``: equal within a
    framework, and different between frameworks for the stated `reason`. ``record``: recorded, never compared."""
    expected: Callable[[Run], Any] | None = None
    """For kind ``protocol``: the value that a run must have."""
    per_seed: bool = False
    """Compared between runs of one seed only."""
    reason: str = ""
    """For kind ``framework``: why the frameworks differ."""


def stated(name: str, meaning: str, unit: str = "", at: str = "") -> ControlDefinition:
    """Expect what stands `at` a path of the run; without it, under the control's name in the backbone or protocol."""
    read = attrgetter(at or (name if name.startswith("backbone.") else f"protocol.{name}"))

    def expected(run: Run) -> Any:
        found = read(run)
        return list(found) if isinstance(found, tuple) else found

    return ControlDefinition(name, meaning, unit, expected=expected)


def constant(name: str, meaning: str, value: Any, unit: str = "") -> ControlDefinition:
    """Expect `value` of every run."""
    return ControlDefinition(name, meaning, unit, expected=lambda run: value)


def derived(name: str, meaning: str, expected: Callable[[Run], Any], unit: str = "") -> ControlDefinition:
    """Expect what a function makes of the run."""
    return ControlDefinition(name, meaning, unit, expected=expected)


def equal(name: str, meaning: str, per_seed: bool = False) -> ControlDefinition:
    """Expect nothing but the same in all runs that are compared."""
    return ControlDefinition(name, meaning, kind="equal", per_seed=per_seed)
