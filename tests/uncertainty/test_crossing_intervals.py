"""Intervals of crossings of lines made by hand."""

import numpy as np
import pytest

from cascadebench.metrics.coco.rules import IOUS
from cascadebench.uncertainty.crossing_intervals import crossing_interval

PLACES = np.linspace(0.65, 0.75, 201)


def falling(places) -> np.ndarray:
    """Differences that fall through zero at these IoUs: float64 [..., IoU]."""
    return 0.2 * (np.asarray(places)[..., None] - np.array(IOUS))


def test_one_seed_has_percentiles_of_where_the_resamples_cross():
    found = crossing_interval(falling([0.7]), falling(PLACES[None]), seed=0)
    assert found.value == pytest.approx(0.7)
    assert (found.low, found.high) == pytest.approx(np.percentile(PLACES, (2.5, 97.5)))
    assert (found.crossing_share, found.seeds, found.resamples, found.empty_resamples) == (1, 1, 201, 0)


@pytest.mark.parametrize("other", [np.ones(10), np.array([1, -1, 1, -1, -1, -1, -1, -1, -1, -1]), np.full(10, np.nan)])
def test_less_than_95_of_100_resamples_that_cross_once_give_no_interval(other):
    draws = falling(np.linspace(0.65, 0.75, 100))[None]
    draws[0, :5] = other
    found = crossing_interval(falling([0.7]), draws, seed=0)
    assert found.crossing_share == 0.95
    assert found.low < found.value < found.high
    draws[0, 5] = other
    found = crossing_interval(falling([0.7]), draws, seed=0)
    assert found.crossing_share == 0.94
    assert found.value == pytest.approx(0.7)
    assert np.isnan([found.low, found.high]).all()
    assert found.empty_resamples == (6 if np.isnan(other).any() else 0)


def test_curves_that_do_not_cross_have_no_interval_even_if_resamples_do():
    found = crossing_interval(np.ones((1, 10)), falling(PLACES[None]), seed=0)
    assert found.crossing_share == 1
    assert np.isnan([found.value, found.low, found.high]).all()


def test_seeds_are_resampled_too():
    """On every resample of the images the same: all of the interval comes from the seeds."""
    values = falling([0.66, 0.7, 0.71])
    draws = np.repeat(values[:, None], 500, axis=1)
    found = crossing_interval(values, draws, seed=0)
    assert found.value == pytest.approx(0.69)
    # The mean of three draws out of three seeds, made as wide as the standard error and then wider by Student's t.
    assert found.low < 0.66 and found.high > 0.71
    alike = crossing_interval(falling([0.69] * 3), np.repeat(falling([0.69] * 3)[:, None], 500, axis=1), seed=0)
    assert (alike.low, alike.high) == pytest.approx((0.69, 0.69))
