"""The interval of a number over images and training seeds: the only place that makes one.

Gaps, claims, tables, charts and ``compare`` read the same samples by the same rule. ``docs/statistics.md`` says what
the intervals mean, for whom they hold, and what they leave out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cascadebench.uncertainty.bootstrap import RESAMPLES
from cascadebench.uncertainty.curves import Measured
from cascadebench.uncertainty.seed_scatter import SeedScatter

ALPHA = 0.05
"""One less the level of an interval."""
Ends = tuple[float, float]
"""Both ends of an interval."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval."""

    value: float
    """On the validation set itself, mean over the seeds."""
    low: float
    high: float
    """Ends of the interval; infinite where the resamples are too few for it."""
    image_error: float
    """Standard error that comes from the choice of images."""
    seed_error: float
    """Standard error of the mean over the seeds; NaN with one seed, whose interval leaves that part out."""
    seeds: int
    """Training seeds."""
    resamples: int
    """Resamples of the images that were asked for."""
    empty_resamples: int
    """Among them those that were left out because they hold no ground truth."""


@dataclass(frozen=True)
class Pooled:
    """A number over several trainings, or several in the shape [...]."""

    point: float | np.ndarray
    """float64 [...]: mean over the seeds."""
    samples: np.ndarray | None
    """float64 [resamples, ...]: of the mean, over images and seeds, no further than the number can reach; None if
    nothing is known of its error."""
    over_images: np.ndarray | None
    """float64 [resamples, ...]: the part of `samples` that varies the images alone, the mean over the seeds on each
    resample."""
    seed_error: float | np.ndarray
    """float64 [...]: standard error of the mean over the seeds; NaN with one."""


def over_seeds(
    by_seed: Mapping[int, Measured], seed: int, resamples: int = RESAMPLES, scatter: SeedScatter | None = None
) -> Pooled:
    """Pool the trainings of one number.

    A sample is the mean over the seeds on one resample of the images plus, with several seeds, a part for their choice.
    Without `scatter` that is the standard error of the mean times a draw of Student's t with one degree of freedom less
    than seeds. What each training finds on these very images is in both parts then, so the intervals err on the wide
    side. With it, the variance between the seeds is one of more degrees of freedom, those of the study's scatter added
    to the number's own, and what the images explain of it is left out where it is known: ``docs/statistics.md``.

    Parameters
    ----------
    by_seed : mapping of int to Measured
        The number in the training with each seed.
    seed : int
        Of the draws for the seeds.
    resamples : int
        Draws for the seeds of a number that the images do not vary.
    scatter : SeedScatter or None
        Of the study that an AP or a gap belongs to; None for every other number.
    """
    trainings = [by_seed[number] for number in sorted(by_seed)]
    points, within = np.stack([training.point for training in trainings]), trainings[0].within
    point, over_images = points.mean(axis=0), None
    if any(training.samples is not None for training in trainings):
        over_images = np.mean([training.samples for training in trainings], axis=0)
    if len(trainings) == 1:
        samples = None if over_images is None else over_images.clip(*within)
        return Pooled(point, samples, over_images, point * np.nan)
    samples = np.repeat(point[None], resamples, axis=0) if over_images is None else over_images
    prior = scatter.prior_freedom(len(points)) if scatter and over_images is not None else 0
    own, of_images = _seed_weights(len(points), len(samples), seed, prior, prior * scatter.ratio if prior else 0.0)
    for weight, away in zip(own, points - point, strict=True):
        samples = samples + np.multiply.outer(weight, away)
    if prior:
        for weight, training in zip(of_images, trainings, strict=True):
            away = training.samples - np.nanmean(training.samples, axis=0)
            samples = samples + weight.reshape(-1, *[1] * point.ndim) * away
    return Pooled(point, samples.clip(*within), over_images, points.std(axis=0, ddof=1) / np.sqrt(len(points)))


@lru_cache(maxsize=32)
def _seed_weights(seeds: int, resamples: int, seed: int, prior: int, known: float) -> tuple[np.ndarray, np.ndarray]:
    """What the distances of each seed from the mean count in a sample: two of float64 [seeds, resamples].

    The first weighs the distance of its value, the second that of its value on a resample. Together they add up to the
    standard error of the mean times a draw of Student's t, of the degrees of freedom of both; `known` is the prior ones
    times the ratio of scatter. The weights are the same for all numbers of a study, so that samples of a difference are
    differences of samples over the seeds too.
    """
    # The images' weights take [seed, resample]; three numbers make another stream.
    random = np.random.default_rng([seed, resamples, seeds])
    normal = random.standard_normal((seeds, resamples))
    spread = random.chisquare(seeds - 1 + prior, size=resamples)
    # A random difference between the seeds whose squared weights add up to one.
    direction = random.standard_normal((seeds, resamples))
    direction -= direction.mean(axis=0)
    direction /= np.sqrt((direction**2).sum(axis=0))
    # The mean over the seeds holds the images' part of the variance once already.
    beyond = np.maximum(known / spread - 1, 0)
    return normal / np.sqrt(seeds * spread), direction * np.sqrt(beyond / seeds)


def order_statistics(samples: np.ndarray, alpha: float = ALPHA) -> Ends:
    """Interval of level ``1 - alpha`` from the k-th lowest to the k-th highest sample, k = floor(alpha/2 (B+1)).

    So an interval and a p-value that counts samples never disagree, at any level (:mod:`cascadebench.evidence.holm`).

    Parameters
    ----------
    samples : ndarray, float64 [B]
        Those that are not finite are left out.

    Returns
    -------
    Ends
        Infinite where the samples are too few for the level.
    """
    ordered = np.sort(samples[np.isfinite(samples)])
    rank = math.floor(alpha / 2 * (len(ordered) + 1) + 1e-9)  # 0.05/2 * 2000 must be 50, whatever the last bit says
    return (float(ordered[rank - 1]), float(ordered[-rank])) if rank else (-math.inf, math.inf)


def interval(by_seed: Mapping[int, Measured], seed: int, scatter: SeedScatter | None = None) -> Interval:
    """Interval of a number, an AP or a difference, from its trainings; parameters are those of :func:`over_seeds`."""
    pooled = over_seeds(by_seed, seed, scatter=scatter)
    value = float(pooled.point)
    low, high = order_statistics(pooled.samples)
    known = pooled.over_images[~np.isnan(pooled.over_images)]
    return Interval(
        value=value,
        low=low,
        high=high,
        image_error=float(known.std(ddof=1)) if len(known) > 1 else np.nan,
        seed_error=float(pooled.seed_error),
        seeds=len(by_seed),
        resamples=len(pooled.samples),
        empty_resamples=len(pooled.samples) - len(known),
    )
