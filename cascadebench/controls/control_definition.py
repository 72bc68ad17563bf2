"""What a control is."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from cascadebench.study.run import Run

Kind = Literal["protocol", "equal", "framework", "record"]


@dataclass(frozen=True)
class ControlDefinition:
    """One control, the same in every framework.

    Attributes
    ----------
    name : str
        Common name, ``group.name``.
    meaning : str
        One sentence.
    unit : str
        ``pixels``, ``iterations``, ... or empty for counts, shares and names.
    kind : str
        ``protocol``: the protocol (or backbone, or variant) says what it must be, in every framework. ``equal``: nobody
        says what it must be, but it is the same in all runs that it is compared over. ``framework``: equal within a
        framework, and different between frameworks for the stated `reason`. ``record``: recorded, never compared.
    expected : callable or None
        For kind ``protocol``: the value that a run must have.
    per_seed : bool
        Compared between runs of one seed only.
    reason : str
        For kind ``framework``: why the frameworks differ.
    """

    name: str
    meaning: str
    unit: str = ""
    kind: Kind = "protocol"
    expected: Callable[[Run], Any] | None = None
    per_seed: bool = False
    reason: str = ""


def value(path: str) -> Callable[[Run], Any]:
    """Expect what stands at `path` of the run, such as ``protocol.rpn.nms_iou``; a tuple as a list."""
    read = attrgetter(path)

    def expected(run: Run) -> Any:
        found = read(run)
        return list(found) if isinstance(found, tuple) else found

    return expected


def always(value: Any) -> Callable[[Run], Any]:
    """Expect `value` of every run."""
    return lambda run: value
