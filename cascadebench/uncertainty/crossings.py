"""The IoU at which two curves of AP cross, and its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cascadebench.metrics.coco.rules import IOUS
from cascadebench.uncertainty.curves import Measured
from cascadebench.uncertainty.intervals import order_statistics, over_seeds
from cascadebench.uncertainty.seed_scatter import SeedScatter

CROSSING = "crossing"
"""Quantity of a gap in ``intervals.csv``: the IoU at which its two sides cross."""
LEAST_SHARE = 0.95
"""Share of the resamples that must cross exactly once: with fewer, the interval would leave out too many of them."""


def crossings(difference: np.ndarray, ious: Sequence[float] = IOUS) -> np.ndarray:
    """IoU at which a difference of two curves changes its sign, between thresholds by linear interpolation.

    Curves that touch and part on the same side do not cross, and neither do those that are equal at an end. Where they
    are equal at one or several thresholds in a row and change sides there, they cross in the middle of those.

    Parameters
    ----------
    difference : ndarray, float [..., IoU]

    Returns
    -------
    ndarray, float64 [..., IoU - 1]
        Entry k is the crossing met when threshold k + 1 was reached, NaN if there is none: all NaN for curves that do
        not cross. ``np.isfinite(...).sum(axis=-1)`` counts them; :func:`only_crossing` picks one where there is one.
    """
    difference = np.asarray(difference, dtype=np.float64)
    met = np.full((*difference.shape[:-1], difference.shape[-1] - 1), np.nan)
    side, height = np.zeros(difference.shape[:-1]), np.zeros(difference.shape[:-1])
    start = np.full(difference.shape[:-1], np.nan)  # first threshold of a stretch on which they are equal
    for place in range(difference.shape[-1]):
        here = difference[..., place]
        changes = (here != 0) & (side != 0) & (np.sign(here) == -side)
        if place:
            low, high = ious[place - 1], ious[place]
            between = low + (high - low) * height / np.where(changes, height + np.abs(here), 1)
            met[..., place - 1] = np.where(changes, np.where(np.isnan(start), between, (start + low) / 2), np.nan)
        equal = here == 0
        start = np.where(equal, np.where(np.isnan(start), ious[place], start), np.nan)
        # An unknown value ends what was known of the sides.
        side = np.where(equal, side, np.where(np.isnan(here), 0, np.sign(here)))
        height = np.where(equal, height, np.abs(np.nan_to_num(here)))
    return met


def only_crossing(met: np.ndarray) -> np.ndarray:
    """The crossing of curves that cross once: float64 [...] of :func:`crossings`; NaN for none or several."""
    once = np.isfinite(met).sum(axis=-1) == 1
    return np.where(once, np.nan_to_num(met).sum(axis=-1), np.nan)


@dataclass(frozen=True)
class CrossingInterval:
    """The IoU at which a gap changes its sign, with its 95% interval."""

    value: float
    """On the validation set itself, of the mean over the seeds; NaN unless that crosses exactly once."""
    low: float
    high: float
    """Order statistics of the samples that cross exactly once; NaN without a value or if they are less than
    :data:`LEAST_SHARE` of all."""
    crossing_share: float
    """Share of all samples that cross exactly once."""
    seeds: int
    """Training seeds."""
    resamples: int
    """Resamples of the images that were asked for."""
    empty_resamples: int
    """Among them those without any ground truth."""


def crossing_interval(
    by_seed: Mapping[int, Measured], seed: int, scatter: SeedScatter | None = None
) -> CrossingInterval:
    """Where a paired difference by IoU crosses zero, from the samples that its own intervals come from.

    Parameters are those of :func:`cascadebench.uncertainty.intervals.over_seeds`.
    """
    pooled = over_seeds(by_seed, seed, scatter=scatter)
    value, crossed = float(only_crossing(crossings(pooled.point))), only_crossing(crossings(pooled.samples))
    share = float(np.isfinite(crossed).mean())
    low, high = order_statistics(crossed) if np.isfinite(value) and share >= LEAST_SHARE else (np.nan, np.nan)
    empty = int(np.isnan(pooled.samples).any(axis=-1).sum())
    return CrossingInterval(value, low, high, share, len(by_seed), len(crossed), empty)
