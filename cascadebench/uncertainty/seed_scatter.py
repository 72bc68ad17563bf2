"""How much the trainings of a study scatter, in units of what each of them finds on the images by chance."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cascadebench.uncertainty.curves import Measured

PRIOR_FREEDOM = 4
"""Most degrees of freedom that the scatter of a study counts beside the seeds of a number. More would decide a little
more often, but err too often where trainings of one detector scatter twice as much as those of another:
``docs/statistics.md`` has the simulation."""
LEAST_VARIANCE = 1e-16
"""Variance over the images below which a number says nothing of its scatter: it hardly depends on them."""


@dataclass(frozen=True)
class SeedScatter:
    """What all detectors of a study with several seeds say together of how trainings scatter."""

    ratio: float
    """Variance between the seeds of an AP or a gap, divided by the part of it that the choice of images explains."""
    freedom: int
    """Degrees of freedom that it was estimated with: seeds less one, summed over the detectors."""

    def prior_freedom(self, seeds: int) -> int:
        """Degrees of freedom that it adds to those of a number with so many seeds, whose own are among its."""
        return max(0, min(PRIOR_FREEDOM, self.freedom - (seeds - 1)))


def seed_scatter(detectors: Iterable[Sequence[Mapping[int, Measured]]]) -> SeedScatter | None:
    """Estimate the scatter of a study.

    Parameters
    ----------
    detectors : iterable of sequence of mapping of int to Measured
        Of every detector some numbers or curves by seed, such as AP by IoU at each test stage, with their resamples.

    Returns
    -------
    SeedScatter or None
        None if no detector has two seeds, or none of its numbers depends on the images.
    """
    found = []
    for numbers in detectors:
        ratios = [ratio for by_seed in numbers if len(by_seed) > 1 and (ratio := _ratio(by_seed)) is not None]
        if ratios:
            found.append((len(numbers[0]) - 1, math.fsum(ratios) / len(ratios)))
    freedom = sum(own for own, _ in found)
    # fsum: the order of the detectors does not change the last digit.
    return SeedScatter(math.fsum(own * ratio for own, ratio in found) / freedom, freedom) if found else None


def stages_and_gaps(stages: Iterable[Mapping[int, Measured]]) -> list[dict[int, Measured]]:
    """What a detector tells of its scatter: AP by IoU at every test stage, and its gap to the first of them."""
    curves = [dict(by_seed) for by_seed in stages]
    return curves + [{number: _minus(one, curves[0][number]) for number, one in stage.items()} for stage in curves[1:]]


def _minus(one: Measured, other: Measured) -> Measured:
    return Measured(one.point - other.point, one.samples - other.samples)


def _ratio(by_seed: Mapping[int, Measured]) -> float | None:
    """The ratio of one number or curve; None if it does not depend on the images."""
    trainings = [by_seed[number] for number in sorted(by_seed)]
    between = np.stack([one.point for one in trainings]).var(axis=0, ddof=1).sum()
    draws = np.stack([one.samples for one in trainings])
    # What all trainings of a detector find alike on a resample is no part of their scatter.
    by_chance = np.nanvar(draws - draws.mean(axis=0), axis=1).sum(axis=0).sum() / (len(trainings) - 1)
    return float(between / by_chance) if by_chance > LEAST_VARIANCE else None
