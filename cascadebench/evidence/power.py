"""What a design can decide: the power of an effect under the rule that judges claims, before anything is trained."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import erfc
from scipy.stats import chi2

from cascadebench.uncertainty.intervals import ALPHA
from cascadebench.uncertainty.seed_scatter import PRIOR_FREEDOM

ESTIMATES, DRAWS = 200, 2000


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
    return float(erfc(-beyond).mean() / 2)


def _critical(design: Design, level: float) -> np.ndarray:
    """Half-widths of the interval at a level, one for each of the estimates of scatter that may be drawn."""
    own = design.seeds - 1
    prior = max(0, min(PRIOR_FREEDOM, design.freedom - own))
    variance, explained = design.seed_sd**2 + design.by_chance, design.by_chance if prior else 0.0
    of_own = variance * _spread(own, ESTIMATES) / own
    of_study = np.zeros(ESTIMATES)
    if prior:
        shuffled = np.random.default_rng(0).permutation(ESTIMATES)  # the two are apart from each other
        of_study = (variance * _spread(design.freedom, ESTIMATES) / design.freedom)[shuffled]
    # Given the chi-square of its t, a sample that over_seeds draws is normal, of this variance.
    spread = _spread(own + prior, DRAWS)
    beyond = np.maximum(prior * of_study[:, None] / spread - explained, 0) + own * of_own[:, None] / spread
    shared = design.image_se**2 - design.by_chance * (1 - 1 / design.seeds)
    deviation = np.sqrt(shared + beyond / design.seeds)
    low, high = np.zeros(ESTIMATES), 10 * deviation.max(axis=1)
    for _ in range(40):
        middle = (low + high) / 2
        outside = erfc(middle[:, None] / (math.sqrt(2) * deviation)).mean(axis=1) > level
        low, high = np.where(outside, middle, low), np.where(outside, high, middle)
    return high


def _spread(freedom: int, count: int) -> np.ndarray:
    """Values of chi-square that share its probability evenly, rising."""
    return chi2(freedom).ppf((np.arange(count) + 0.5) / count)
