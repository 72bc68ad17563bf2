"""What a design can decide: the power of an effect under the rule that judges claims."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import erf, erfc, roots_legendre
from scipy.stats import chi2

from cascadebench.uncertainty.intervals import ALPHA
from cascadebench.uncertainty.seed_scatter import PRIOR_FREEDOM

ESTIMATES, DRAWS = 16, 64
"""Values that stand for an estimate of scatter, of which there are two, and for the chi-square of a t."""
DECIDED = 0.8
"""The power that effects, seeds and images are given for."""


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


def power(design: Design, effect: float, other: float = math.inf, alpha: float = ALPHA) -> Power:
    """Probability that an effect is decided by the rule of :mod:`cascadebench.evidence.verdicts`.

    It is that of the first step of Holm's correction: what else is decided makes the later ones less strict. Scatter is
    taken for equal over the detectors of the study.

    Parameters
    ----------
    effect : float
        Distance of the true quantity from the claim's threshold, in the unit of `design`.
    other : float
        For a quantity between two thresholds, its distance from the second; the interval must then lie between both.
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
    critical, weights = _critical(design, alpha / design.questions)
    middle = np.interp(0.5, np.cumsum(weights) - weights / 2, critical)
    return Power(design.standard_error, float(middle), _decided(design, abs(effect), other, alpha))


def least_effect(design: Design, decided: float = DECIDED, alpha: float = ALPHA, *, between: bool = False) -> float:
    """Smallest effect that is decided with this probability; infinite with one seed.

    With `between` it is the smallest margin on both sides of a true difference of zero within which *equal* is decided.
    """
    if design.seeds < 2:
        return math.inf
    critical, _ = _critical(design, alpha / design.questions)
    low, high = 0.0, float(critical[-1]) + 10 * design.standard_error
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        enough = _decided(design, middle, middle if between else math.inf, alpha) >= decided
        low, high = (low, middle) if enough else (middle, high)
    return high


def _decided(design: Design, effect: float, other: float, alpha: float) -> float:
    """Probability that a mean lies further than a half-width from the threshold, or from both thresholds."""
    critical, weights = _critical(design, alpha / design.questions)
    below, above = (erf((end - critical) / (math.sqrt(2) * design.standard_error)) for end in (effect, other))
    return float((weights * np.maximum(below + above, 0)).sum() / 2)


@lru_cache(maxsize=256)
def _critical(design: Design, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Half-widths of the interval at a level, rising, for estimates of scatter that may be drawn, and their weights."""
    own = design.seeds - 1
    prior = max(0, min(PRIOR_FREEDOM, design.freedom - own))
    variance, explained = design.seed_sd**2 + design.by_chance, design.by_chance if prior else 0.0
    of_own, weights = _spread(own, ESTIMATES if prior else ESTIMATES**2)
    of_own, of_study = variance * of_own / own, np.zeros(1)
    if prior:  # the two estimates are apart from each other
        of_study, more = _spread(design.freedom, ESTIMATES)
        of_study, weights = variance * of_study / design.freedom, np.outer(weights, more).ravel()
    of_own, of_study = (values.reshape(-1, 1) for values in np.meshgrid(of_own, of_study, indexing="ij"))
    # Given the chi-square of its t, a sample that over_seeds draws is normal, of this variance.
    spread, chances = _spread(own + prior, DRAWS)
    beyond = np.maximum(prior * of_study / spread - explained, 0) + own * of_own / spread
    shared = design.image_se**2 - design.by_chance * (1 - 1 / design.seeds)
    deviation = np.sqrt(shared + beyond / design.seeds)
    low, high = deviation.min(axis=1) / 1000, 10 * deviation.max(axis=1)
    for _ in range(30):
        middle = np.sqrt(low * high)  # with two seeds they are many orders of magnitude apart
        outside = erfc(middle[:, None] / (math.sqrt(2) * deviation)) @ chances > level
        low, high = np.where(outside, middle, low), np.where(outside, high, middle)
    order = np.argsort(high)
    return high[order], weights[order]


@lru_cache(maxsize=64)
def _spread(freedom: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of chi-square, rising, and weights of which a mean over it is the sum; the low ones lie densely."""
    nodes, weights = roots_legendre(count)
    nodes, weights = (nodes + 1) / 2, weights / 2
    return chi2(freedom).ppf(nodes**4), 4 * nodes**3 * weights
