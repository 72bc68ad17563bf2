"""Detections of trained detectors on proposals that are not their own: what a study asks, and where they come from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from annotated_types import Ge

from cascadebench.core.configuration import Configuration
from cascadebench.core.errors import InputError
from cascadebench.study.run import Run

GROUND_TRUTH = "ground truth"
"""What a swap names in place of a variant."""

WITH_GROUND_TRUTH = "ground_truth"
"""Folder under ``proposals_of/`` of detections on a run's own proposals with the ground truth added to them."""


@dataclass(frozen=True)
class ProposalSource:
    """Proposals of another run, or the ground truth."""

    run_id: str | None
    """None: the ground truth, added to the detector's own proposals."""
    stage: int = 0
    """0: what the other run's RPN proposes; t: the boxes that leave its stage t."""

    @property
    def name(self) -> str:
        """Name of the folder under ``proposals_of/``."""
        if self.run_id is None:
            return WITH_GROUND_TRUTH
        return f"{self.run_id}-stage{self.stage}" if self.stage else self.run_id

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a folder's name."""
        if name == WITH_GROUND_TRUTH:
            return cls(None)
        run_id, stage = re.fullmatch(r"(.+?)(?:-stage([1-9]))?", name).groups()
        return cls(run_id, int(stage or 0))


class ProposalSwap(Configuration):
    """A further detection with trained weights, on proposals that are not the detector's own."""

    variant: str
    """Label of the variant that detects."""
    proposals_of: str
    """Label of the variant whose proposals it is given, of the same framework, backbone and seed; or ``ground truth``,
    which is added to its own."""
    stage: Annotated[int, Ge(0)] = 0
    """0: what the RPN of `proposals_of` proposes; t: the boxes that leave its stage t."""


def planned_swaps(
    entries: Sequence[ProposalSwap], by_label: Mapping[str, Sequence[Run]], asked_by: str
) -> dict[str, tuple[ProposalSource, ...]]:
    """Look the runs of every swap up, one pair for each framework, backbone and seed.

    Parameters
    ----------
    by_label : mapping of str to sequence of Run
        Runs of every variant of a study, those of all variants in one order of frameworks, backbones and seeds.
    asked_by : str
        File and key of the entries, for messages.

    Returns
    -------
    dict of str to tuple of ProposalSource
        By id of the run that detects.

    Raises
    ------
    InputError
        If an entry names a label or a stage that there is not, or stands there twice.
    """
    swaps: dict[str, tuple[ProposalSource, ...]] = {}
    for number, entry in enumerate(entries):
        _check(entry, by_label, f"{asked_by}[{number}]")
        others = by_label.get(entry.proposals_of, [None] * len(by_label[entry.variant]))
        for run, other in zip(by_label[entry.variant], others, strict=True):
            source = ProposalSource(other.id if other else None, entry.stage)
            if source in swaps.get(run.id, ()):
                raise InputError(f"{asked_by}[{number}]: {entry.variant!r} on {entry.proposals_of!r} is given twice")
            swaps[run.id] = (*swaps.get(run.id, ()), source)
    return swaps


def _check(entry: ProposalSwap, by_label: Mapping[str, Sequence[Run]], asked_by: str) -> None:
    """Refuse labels that the study does not have, and stages that their variant does not have."""
    labels = ", ".join(sorted(by_label))
    if entry.variant not in by_label:
        raise InputError(f"{asked_by}.variant: {entry.variant!r} is no variant's label; labels: {labels}")
    if entry.proposals_of not in (GROUND_TRUTH, *by_label):
        allowed = f"allowed: {GROUND_TRUTH}, {labels}"
        raise InputError(f"{asked_by}.proposals_of: {entry.proposals_of!r} is no variant's label; {allowed}")
    stages = 0 if entry.proposals_of == GROUND_TRUTH else by_label[entry.proposals_of][0].variant.stages
    if entry.stage > stages:
        allowed = f"0 to {stages}" if stages else "0"
        raise InputError(f"{asked_by}.stage: {entry.stage}; allowed for {entry.proposals_of!r}: {allowed}")
