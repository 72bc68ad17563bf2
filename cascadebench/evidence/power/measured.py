"""What a study decides with the scatter that it measured, and what more it would take."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascadebench.evidence.power.design import DECIDED, Design, least_effect, power
from cascadebench.evidence.quantities import Estimate
from cascadebench.evidence.verdicts import Verdict
from cascadebench.uncertainty.intervals import ALPHA

MOST_SEEDS = 20
"""Seeds up to which is looked for the number that decides."""
MOST_IMAGES = 100
"""The same for images, as a multiple of those that there are."""


@dataclass(frozen=True)
class Decides:
    """What a study decides on one question, in the unit of its quantity."""

    design: Design | None = None
    """Its measured scatter; None: it has no samples over several seeds."""
    least_effect: float | None = None
    """Distance of the true quantity from the threshold that is decided with 80% if nothing else of the study is; of
    *equal* the margin, if the true difference is zero. None without a design."""
    seeds_needed: float | None = None
    images_needed: float | None = None
    """Of an inconclusive question the seeds, with the images that there are, or the images, with the seeds that there
    are, that decide with 80% if the true quantity is the measured one; infinite: none up to :data:`MOST_SEEDS`, or up
    to :data:`MOST_IMAGES` times the images. None: it is not inconclusive, it is so only because there are too few
    bootstrap samples, or the images do not vary it."""


def decides(verdict: Verdict, verdicts: Sequence[Verdict], images: int) -> Decides:
    """Say what a study decides on a question and what it would take.

    The least effect is that of the first step of Holm's correction. What is needed is so at the step that the question
    came to: whatever the study decided stays decided.

    Parameters
    ----------
    verdicts : sequence of Verdict
        All of the study.
    images : int
        On which it is measured.
    """
    found = verdict.estimate
    design = measured_design(found, sum(one.decides for one in verdicts)) if found else None
    if design is None:
        return Decides()
    least = least_effect(design, between=verdict.claim.direction == "within")
    if verdict.reading != "inconclusive" or not all(map(math.isfinite, verdict.adjusted_interval)):
        return Decides(design, least)
    here = replace(design, questions=round(ALPHA / verdict.level))
    away = distances(verdict.claim.threshold, found.point)
    resampled = design.image_se > 0
    return Decides(design, least, seeds_needed(here, away), images_needed(here, away, images) if resampled else None)


def measured_design(found: Estimate, questions: int) -> Design | None:
    """The design of a study as its results tell it; None of a quantity without samples over several seeds, or scatter.

    The variance between the seeds is the one that the interval is made of, the study's scatter in it
    (:func:`cascadebench.uncertainty.intervals.over_seeds`).
    """
    seeds, scatter = len(found.by_seed), found.scatter
    if found.samples is None or seeds < 2:
        return None
    between = float(np.var(list(found.by_seed.values()), ddof=1))
    of_images = by_chance = 0.0
    if found.over_images:
        draws = np.stack(list(found.over_images.values()))
        of_images = float(np.nanvar(draws, axis=1).mean())
        by_chance = float(np.nanvar(draws - draws.mean(axis=0), axis=1).sum() / (seeds - 1))
    if scatter:
        own, prior = seeds - 1, scatter.prior_freedom(seeds)
        between = (own * between + prior * scatter.ratio * by_chance) / (own + prior)
    if not between + of_images > 0:
        return None
    return Design(
        seeds=seeds,
        seed_sd=math.sqrt(max(0.0, between - by_chance)),
        image_se=math.sqrt(of_images),
        questions=questions,
        freedom=scatter.freedom if scatter else 0,
        own_share=min(1.0, by_chance / of_images) if of_images else 0.0,
    )


def distances(threshold: float | tuple[float, float], value: float) -> tuple[float, float]:
    """How far a value is from what would decide it otherwise: from a threshold, or from two if it lies between them."""
    if not isinstance(threshold, tuple):
        return abs(value - threshold), math.inf
    low, high = threshold
    if low < value < high:
        return value - low, high - value
    return min(abs(value - low), abs(value - high)), math.inf


def with_seeds(design: Design, seeds: int) -> Design:
    """The same study with another number of seeds, two or more before and after."""
    return replace(design, seeds=seeds, freedom=design.freedom * (seeds - 1) // (design.seeds - 1))


def seeds_needed(design: Design, away: tuple[float, float]) -> float:
    """The least number of seeds beyond those of a design that decides with 80%; infinite if too many."""
    numbers = range(design.seeds + 1, MOST_SEEDS + 1)
    place = bisect_left(numbers, True, key=lambda seeds: power(with_seeds(design, seeds), *away).power >= DECIDED)
    return numbers[place] if place < len(numbers) else math.inf


def images_needed(design: Design, away: tuple[float, float], images: int) -> float:
    """The least number of images that decides with 80%, rounded up to two digits; infinite if too many.

    The variance over the images goes as one over their number.
    """

    def enough(times: float) -> bool:
        return power(replace(design, image_se=design.image_se / math.sqrt(times)), *away).power >= DECIDED

    if not enough(MOST_IMAGES):
        return math.inf
    steps = np.geomspace(1, MOST_IMAGES, 500)
    needed = images * float(steps[bisect_left(steps, True, key=enough)])
    unit = 10 ** max(0, math.floor(math.log10(needed)) - 1)
    return math.ceil(needed / unit) * unit
