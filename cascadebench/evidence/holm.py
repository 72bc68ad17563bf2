"""p-values from bootstrap samples, and Holm's correction for many claims.

The interval of level 1 - a runs between order statistics of the samples
(:func:`cascadebench.uncertainty.intervals.order_statistics`). The p-value of a decision is the smallest a at which the
interval reaches it, so an interval and a p-value can never disagree.

Holm on these p-values, and not simultaneous intervals from the maximum of studentized differences, for three reasons.
It needs nothing of the joint distribution, which claims over different sets of runs and seeds do not share. Counted
and measured quantities without samples stay out of it simply. And a reader can check it with pencil and paper. What it
gives away is the correlation between claims that share runs: it decides a little less often. Its decisions, direction
included, err with probability at most alpha anywhere in the study. The intervals are those that Holm compared; they
belong to the decisions and do not cover all values at once with probability 1 - alpha, except at alpha over the number
of claims (Bonferroni), which is the level of the first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascadebench.evidence.claims import Claim


def decision_p_value(claim: Claim, samples: np.ndarray) -> float:
    """Smallest alpha at which the interval of order statistics decides on the claim, for it or against it; at most 1.

    Samples that are not finite are left out. For ``greater`` and ``less`` this is the two-sided bootstrap p-value of
    the threshold.
    """
    samples = samples[np.isfinite(samples)]
    if not isinstance(claim.threshold, tuple):
        return min(1.0, _share(samples <= claim.threshold), _share(samples >= claim.threshold))
    low, high = claim.threshold
    inside = max(_share(samples <= low), _share(samples >= high))
    return min(1.0, inside, _share(samples >= low), _share(samples <= high))


def samples_needed(claims: int, alpha: float) -> int:
    """Bootstrap samples below which the smallest possible p-value could not pass Holm's first step."""
    return math.ceil(2 * claims / alpha - 1e-9) - 1


@dataclass(frozen=True)
class HolmStep:
    """Holm's outcome for one claim."""

    adjusted: float
    """Adjusted p-value: the claim is decided at every alpha from this on."""
    level: float
    """The alpha that its own p-value was compared with."""


def holm(p_values: Sequence[float], alpha: float) -> list[HolmStep]:
    """Holm's step-down correction, in the order of `p_values`.

    The lowest of m p-values is compared with alpha/m, the next with alpha/(m-1), and so on; the first that fails ends
    it, and all after it fail at that level too. p <= level then holds for exactly the claims that are decided.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    steps: list[HolmStep | None] = [None] * len(p_values)
    adjusted, level, failed = 0.0, 0.0, False
    for position, index in enumerate(order):
        left = len(p_values) - position
        if not failed:
            level = alpha / left
            failed = p_values[index] > level
        adjusted = max(adjusted, min(1.0, left * p_values[index]))
        steps[index] = HolmStep(adjusted, level)
    return [step for step in steps if step is not None]


def _share(beyond: np.ndarray) -> float:
    """Twice the share of samples beyond a threshold, the observed value counted as one more."""
    return 2 * (int(np.count_nonzero(beyond)) + 1) / (len(beyond) + 1)
