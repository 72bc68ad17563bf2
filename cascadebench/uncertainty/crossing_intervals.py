"""Interval of the IoU at which two curves of AP cross."""

from dataclasses import dataclass

import numpy as np

from cascadebench.uncertainty.gaps import crossings, only_crossing
from cascadebench.uncertainty.intervals import PERCENTILES, gap_samples

LEAST_SHARE = 0.95
"""Share of the resamples that must cross exactly once: with fewer, percentiles would leave out too many of them."""


@dataclass(frozen=True)
class CrossingInterval:
    """The IoU at which a gap changes its sign, with its 95% interval.

    Attributes
    ----------
    value : float
        On the validation set itself, of the mean over the seeds; NaN unless that crosses exactly once.
    low, high : float
        Percentiles of the resamples that cross exactly once; NaN without a value or if they are less than
        :data:`LEAST_SHARE` of all.
    crossing_share : float
        Share of all resamples that cross exactly once.
    seeds : int
        Training seeds.
    resamples : int
        Resamples of the images that were asked for.
    empty_resamples : int
        Among them those without any ground truth.
    """

    value: float
    low: float
    high: float
    crossing_share: float
    seeds: int
    resamples: int
    empty_resamples: int


def crossing_interval(values: np.ndarray, draws: np.ndarray, seed: int) -> CrossingInterval:
    """Where a paired difference crosses zero, resampled as :func:`.intervals.gap_interval` does.

    Parameters
    ----------
    values : ndarray, float64 [seeds, IoU]
        Differences on the validation set, of two trainings with the same seed.
    draws : ndarray, float64 [seeds, resamples, IoU]
        The same on the resamples; NaN where one holds no ground truth.
    seed : int
        Of the resampling of seeds.
    """
    samples = np.stack(
        [gap_samples(values[:, place], draws[..., place], seed) for place in range(values.shape[1])], axis=-1
    )
    value, found = (float(_crossing(values.mean(axis=0))), _crossing(samples))
    known = found[np.isfinite(found)]
    share = len(known) / len(found)
    held = np.isfinite(value) and share >= LEAST_SHARE
    low, high = np.percentile(known, PERCENTILES) if held else (np.nan, np.nan)
    empty = int(np.isnan(samples).any(axis=-1).sum())
    return CrossingInterval(value, float(low), float(high), share, len(values), len(found), empty)


def _crossing(difference: np.ndarray) -> np.ndarray:
    """The only crossing of differences and zero: float64 [...] of [..., IoU]."""
    return only_crossing(crossings(difference, np.zeros_like(difference)))
