"""Crossings of lines made by hand, and their intervals."""

import numpy as np
import pytest

from cascadebench.metrics.coco.rules import IOUS
from cascadebench.uncertainty.crossings import crossing_interval, crossings, only_crossing
from cascadebench.uncertainty.curves import Measured

PLACES = np.linspace(0.65, 0.75, 201)


def falling(places) -> np.ndarray:
    """Differences that fall through zero at these IoUs: float64 [..., IoU]."""
    return 0.2 * (np.asarray(places)[..., None] - np.array(IOUS))


def interval_of(values, draws):
    """Interval of differences [seeds, IoU] and their resamples [seeds, resamples, IoU]."""
    return crossing_interval({n: Measured(*pair) for n, pair in enumerate(zip(values, draws, strict=True))}, seed=0)


def met(difference, ious=(0.5, 0.6, 0.7, 0.8)):
    """Crossings of a difference without the NaN."""
    values = crossings(np.array(difference, dtype=float), ious)
    return values[np.isfinite(values)].tolist()


def test_curves_cross_between_thresholds():
    # 3 above at 0.6, 1 below at 0.7: three quarters of the way.
    assert met([4, 3, -1, -2]) == met([-4, -3, 1, 2]) == pytest.approx([0.675])


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        ([1, 1, 1, 1], []),
        ([0, 0, 0, 0], []),
        ([1, 0, 1, 1], []),  # they touch
        ([0, 1, 1, 0], []),  # they meet at the ends
        ([0, -1, 1, 1], [0.65]),
        ([1, 0, -1, -1], [0.6]),
        ([1, 0, 0, -1], [0.65]),
        ([1, -1, 1, -1], [0.55, 0.65, 0.75]),
        ([1, np.nan, -1, 1], [0.75]),  # what is unknown is no crossing
        ([1, 0, np.nan, -1], []),
    ],
)
def test_crossings(difference, expected):
    assert met(difference) == pytest.approx(expected)


def test_only_crossing_of_several_samples():
    values = crossings(np.array([[1, -1, -1, -1], [1, 1, 1, 1], [1, -1, 1, 1]], dtype=float), (0.5, 0.6, 0.7, 0.8))
    assert np.isfinite(values).sum(axis=-1).tolist() == [1, 0, 2]
    assert only_crossing(values) == pytest.approx([0.55, np.nan, np.nan], nan_ok=True)


def test_one_seed_has_order_statistics_of_where_the_resamples_cross():
    found = interval_of(falling([0.7]), falling(PLACES[None]))
    assert found.value == pytest.approx(0.7)
    assert (found.low, found.high) == pytest.approx((PLACES[4], PLACES[-5]))
    assert (found.crossing_share, found.seeds, found.resamples, found.empty_resamples) == (1, 1, 201, 0)


@pytest.mark.parametrize("other", [np.ones(10), np.array([1, -1, 1, -1, -1, -1, -1, -1, -1, -1]), np.full(10, np.nan)])
def test_less_than_95_of_100_resamples_that_cross_once_give_no_interval(other):
    draws = falling(np.linspace(0.65, 0.75, 100))[None]
    draws[0, :5] = other
    found = interval_of(falling([0.7]), draws)
    assert found.crossing_share == 0.95
    assert found.low < found.value < found.high
    draws[0, 5] = other
    found = interval_of(falling([0.7]), draws)
    assert found.crossing_share == 0.94
    assert found.value == pytest.approx(0.7)
    assert np.isnan([found.low, found.high]).all()
    assert found.empty_resamples == (6 if np.isnan(other).any() else 0)


def test_curves_that_do_not_cross_have_no_interval_even_if_resamples_do():
    found = interval_of(np.ones((1, 10)), falling(PLACES[None]))
    assert found.crossing_share == 1
    assert np.isnan([found.value, found.low, found.high]).all()


def test_seeds_are_resampled_too():
    """On every resample of the images the same: all of the interval comes from the seeds, by Student's t."""
    values = falling([0.68, 0.69, 0.7])
    found = interval_of(values, np.repeat(values[:, None], 500, axis=1))
    assert found.value == pytest.approx(0.69)
    reach = 4.303 * 0.01 / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.69 - reach, 0.69 + reach), abs=0.008)
    alike = interval_of(falling([0.69] * 3), np.repeat(falling([0.69] * 3)[:, None], 500, axis=1))
    assert (alike.low, alike.high) == pytest.approx((0.69, 0.69))
