"""What is measured in one training, with its bootstrap samples: curves of AP by IoU and the numbers read off them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cascadebench.metrics.coco.rules import AP_AT_IOU, IOUS

IOU_RANGES = {"0.50-0.65": (0.5, 0.65), "0.70-0.80": (0.7, 0.8), "0.85-0.95": (0.85, 0.95), "0.50-0.95": (0.5, 0.95)}
"""Ranges of IoU thresholds over which AP is averaged, ends included."""
QUANTITIES = {name: (iou, iou) for name, iou in AP_AT_IOU.items()} | IOU_RANGES
"""First and last threshold of every number of ``intervals.csv``: AP50, AP55, ..., and the means over ranges."""


@dataclass(frozen=True)
class Measured:
    """A number of one training, or several numbers in the shape [...]."""

    point: float | np.ndarray
    """float64 [...]: on the validation set itself."""
    samples: np.ndarray | None = None
    """float64 [resamples, ...]: the same on the resamples of the images, which are the same for everything in a study;
    NaN where a resample holds no ground truth. Their mean is the point (:func:`centred`). None: not resampled."""
    within: tuple[float, float] = (-math.inf, math.inf)
    """Least and greatest value that the number can have: 0 and 1 of an AP, -1 and 1 of a gap."""


FRACTION = (0.0, 1.0)
"""What an AP, a recall or a score lies within."""


def centred(
    point: float | np.ndarray, samples: np.ndarray, within: tuple[float, float] = (-math.inf, math.inf)
) -> Measured:
    """A number with the samples of its resamples, moved so that their mean is its value.

    A resample holds an image twice that the set holds once, and AP is higher on it: by up to a standard error with few
    images, and by more for the better of two detectors, so that it does not cancel in a difference. The value itself is
    right on the average over sets of this size.

    Parameters
    ----------
    point : float or ndarray, float64 [...]
    samples : ndarray, float64 [resamples, ...]
        NaN where a resample gives no value.
    within : (float, float)
        Least and greatest value that the number can have.
    """
    known = samples[np.isfinite(samples).reshape(len(samples), -1).all(axis=1)]
    return Measured(point, samples + (point - known.mean(axis=0)) if len(known) else samples, within)


def mean_over_iou(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Mean over the IoU thresholds from `low` to `high`: float64 [...] of [..., IoU]."""
    return values[..., IOUS.index(low) : IOUS.index(high) + 1].mean(axis=-1)


def over_ranges(values: np.ndarray) -> np.ndarray:
    """Means over :data:`IOU_RANGES`, in their order: float64 [..., ranges] of values [..., IoU]."""
    return np.stack([mean_over_iou(values, *ends) for ends in IOU_RANGES.values()], axis=-1)


def read_off(curve: Measured, low: float, high: float) -> Measured:
    """Mean of a curve over the IoU thresholds from `low` to `high`."""
    return Measured(float(mean_over_iou(curve.point, low, high)), mean_over_iou(curve.samples, low, high), curve.within)


def signed_sum(terms: Iterable[tuple[float, Measured]]) -> Measured:
    """Sum of measured numbers, each times its coefficient; equal to the last digit in whichever order they stand."""
    terms = list(terms)
    point = _sum([coefficient * term.point for coefficient, term in terms])
    ends = [sorted(factor * end for end in term.within) for factor, term in terms]
    within = math.fsum(low for low, _ in ends), math.fsum(high for _, high in ends)
    if all(term.samples is None for _, term in terms):
        return Measured(point, within=within)
    samples = _sum([factor * (term.point if term.samples is None else term.samples) for factor, term in terms])
    return Measured(point, samples, within)


def _sum(addends: list[float | np.ndarray]) -> float | np.ndarray:
    """Sum from the smallest addend to the largest, so that their order does not matter."""
    return sum(np.sort(np.stack(np.broadcast_arrays(*addends)), axis=0))
