"""What a design can decide: the power of an effect under the rule that judges claims, before anything is trained."""

import math
from dataclasses import dataclass

import numpy as np

from cascadebench.uncertainty.intervals import ALPHA
from cascadebench.uncertainty.seed_scatter import PRIOR_FREEDOM

DRAWS, QUANTILE_DRAWS = 200, 8_000


@dataclass(frozen=True)
class Design:
    """How a question of a study is measured; standard deviations in one unit, such as points of AP."""

    seeds: int
    """Trainings of each detector, two or more."""
    seed_sd: float
    """Standard deviation of the quantity between seeds, on infinitely many images."""
    image_se: float
    """Standard error of the quantity with one seed that comes from the choice of images."""
    questions: int = 1
    """Sampled questions of the study, among which Holm's correction decides."""
    freedom: int = 0
    """Seeds less one, summed over the detectors of the study; 0: nothing is taken from the study's scatter."""
    own_share: float = 0.5
    """Of the variance over the images the part that every training has for itself, which more seeds make smaller."""

    @property
    def by_chance(self) -> float:
        """Variance between seeds that the images explain."""
        return self.own_share * self.image_se**2

    @property
    def standard_error(self) -> float:
        """Of the mean over the seeds, from seeds and images."""
        shared = self.image_se**2 - self.by_chance
        return math.sqrt(shared + (self.seed_sd**2 + self.by_chance) / self.seeds)


@dataclass(frozen=True)
class Power:
    """What a design does with an effect."""

    standard_error: float
    critical: float
    """Distance from the threshold from which on a value is decided, in the median over the seeds that may be drawn."""
    power: float
    """Probability that the effect is decided, between 0 and 1, if nothing else of the study is."""


def power(design: Design, effect: float, alpha: float = ALPHA) -> Power:
    """Probability that an effect is decided by the rule of :mod:`cascadebench.evidence.verdicts`.

    It is that of the first step of Holm's correction: what else is decided makes the later ones less strict. Scatter is
    taken for equal over the detectors of the study.

    Parameters
    ----------
    effect : float
        Distance of the true quantity from the claim's threshold, in the unit of `design`.
    alpha : float
        Probability of any wrong decision in the study.

    Examples
    --------
    >>> found = power(Design(seeds=3, seed_sd=0.2, image_se=0.2, questions=14, freedom=12), 1.0)
    >>> round(found.standard_error, 2), found.power > 0.8
    (0.2, True)
    """
    if design.seeds < 2:
        return Power(design.standard_error, math.inf, 0.0)
    critical = _critical(design, alpha / design.questions)
    return Power(design.standard_error, float(np.median(critical)), _decided(design, critical, effect))


def least_effect(design: Design, decided: float = 0.8, alpha: float = ALPHA) -> float:
    """Smallest effect that is decided with this probability; infinite with one seed."""
    if design.seeds < 2:
        return math.inf
    critical = _critical(design, alpha / design.questions)
    low, high = 0.0, float(critical.max()) + 10 * design.standard_error
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _decided(design, critical, middle) >= decided else (middle, high)
    return high


def _decided(design: Design, critical: np.ndarray, effect: float) -> float:
    """Probability that a mean lies beyond the half-width, over those that may be drawn."""
    beyond = (abs(effect) - critical) / (math.sqrt(2) * design.standard_error)
    return sum(math.erfc(-one) for one in beyond) / (2 * len(beyond))


def _critical(design: Design, level: float) -> np.ndarray:
    """Half-widths of the interval at a level, one for each of the estimates of scatter that may be drawn."""
    random, own = np.random.default_rng(0), design.seeds - 1
    prior = max(0, min(PRIOR_FREEDOM, design.freedom - own))
    variance = design.seed_sd**2 + design.by_chance
    of_own = variance * random.chisquare(own, DRAWS) / own
    of_study = variance * random.chisquare(design.freedom, DRAWS) / design.freedom if prior else np.zeros(DRAWS)
    # What over_seeds draws: the images' part, and the seeds' beyond what the images explain of it.
    spread = random.chisquare(own + prior, QUANTILE_DRAWS)
    explained = design.by_chance if prior else 0.0
    shared = design.image_se**2 - design.by_chance + design.by_chance / design.seeds
    images, normal = random.standard_normal((2, QUANTILE_DRAWS))
    found = []
    for mine, theirs in zip(of_own, of_study, strict=True):
        beyond = np.maximum(prior * theirs / spread - explained, 0) + own * mine / spread
        samples = np.abs(math.sqrt(shared) * images + np.sqrt(beyond / design.seeds) * normal)
        found.append(np.quantile(samples, 1 - level))
    return np.array(found)
