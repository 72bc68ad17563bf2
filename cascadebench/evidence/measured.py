"""What was measured of the runs of a study, as the claims' quantities read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cascadebench.study.run import Run
from cascadebench.uncertainty.curves import Measured


class Key(NamedTuple):
    """What a measured number is that is no AP by IoU: metric, where it is read, range of IoU.

    `at` is the label of a test stage; ``stage 2`` for proposals that enter stage 2; empty for the whole model.
    """

    metric: str
    at: str = ""
    iou: tuple[float, float] | None = None


@dataclass(frozen=True)
class MeasuredRun:
    """A run of a study and what was measured of it.

    Attributes
    ----------
    run : Run
        The run.
    problem : str
        Why there is nothing measured, such as ``failed: out of memory`` or ``not run``; empty: it was evaluated.
    curves : mapping
        AP by IoU threshold, by test stage's label and area (``all``, ``small``, ``medium``, ``large``).
    others : mapping
        Everything else.
    """

    run: Run
    problem: str = ""
    curves: Mapping[tuple[str, str], Measured] = field(default_factory=dict)
    others: Mapping[Key, Measured] = field(default_factory=dict)
