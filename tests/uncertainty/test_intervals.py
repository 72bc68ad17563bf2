"""Intervals of numbers and of crossings made by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from cascadebench.metrics.coco.rules import IOUS
from cascadebench.uncertainty.crossings import crossing_interval, crossings, only_crossing
from cascadebench.uncertainty.curves import FRACTION, Measured, centred, read_off, signed_sum
from cascadebench.uncertainty.intervals import interval, order_statistics, over_seeds

RESAMPLES = 1999


def normal(deviation, resamples=RESAMPLES, mean=0.4):
    return np.random.default_rng(0).normal(mean, deviation, size=resamples)


def trainings(values, draws):
    """A number by seed, from its values [seeds] and resamples [seeds, resamples]."""
    return {seed: Measured(*pair) for seed, pair in enumerate(zip(values, draws, strict=True))}


def test_ends_are_order_statistics():
    samples = np.random.default_rng(0).permutation(np.arange(1.0, 2000.0))
    assert order_statistics(samples) == order_statistics(samples, 0.05) == (50.0, 1950.0)
    assert order_statistics(samples, 0.001) == (1.0, 1999.0)
    assert order_statistics(samples, 0.0009) == (-math.inf, math.inf), "1999 samples cannot resolve this level"
    assert order_statistics(np.append(samples, [np.nan] * 50)) == (50.0, 1950.0)


def test_a_gap_with_one_seed_has_the_order_statistics_of_its_resamples():
    draws = normal(0.01) ** 3
    found = interval({0: Measured(0.06, draws)}, seed=0)
    assert (found.value, found.low, found.high) == (0.06, *order_statistics(draws))
    assert found.image_error == pytest.approx(draws.std(ddof=1))
    assert (found.seeds, found.resamples, found.empty_resamples) == (1, RESAMPLES, 0)
    assert np.isnan(found.seed_error)


def test_samples_are_moved_to_the_value():
    draws = normal(0.01, mean=0.43)
    draws[:3] = np.nan
    found = centred(0.4, draws)
    assert np.nanmean(found.samples) == pytest.approx(0.4)
    assert found.samples[3:] - draws[3:] == pytest.approx(0.4 - draws[3:].mean())
    assert np.isnan(found.samples[:3]).all()
    low, high = order_statistics(draws)
    held = interval({0: found}, seed=0)
    assert (held.low, held.high) == pytest.approx((low - 0.03, high - 0.03), abs=1e-3)
    curve = centred(np.array([0.4, 0.1]), np.stack([draws, draws], axis=1))
    assert np.nanmean(curve.samples, axis=0) == pytest.approx([0.4, 0.1])
    assert np.isnan(centred(0.4, draws[:3]).samples).all(), "nothing is known"


@pytest.mark.parametrize("seeds", [1, 2])
def test_no_interval_reaches_further_than_the_number_can(seeds):
    first, second = (
        {seed: centred(value + 0.03 * seed, normal(0.2), FRACTION) for seed in range(seeds)} for value in (0.95, 0.05)
    )
    for by_seed, ends in ((first, (0, 1)), (second, (0, 1))):
        found = interval(by_seed, seed=0)
        assert ends[0] <= found.low < found.value < found.high <= ends[1]
        assert found.image_error == pytest.approx(0.2, rel=0.05), "that is of the samples as they are"
    gap = {seed: signed_sum([(1, first[seed]), (-1, second[seed])]) for seed in first}
    assert gap[0].within == (-1, 1)
    assert interval(gap, seed=0).high <= 1
    of_gaps = signed_sum([(1, gap[0]), (-1, signed_sum([(1, second[0]), (-1, first[0])]))])
    assert of_gaps.within == (-2, 2)
    assert read_off(Measured(np.ones(10), np.ones((2, 10)), (0, 1)), 0.5, 0.95).within == (0, 1)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_add_student_t_times_the_standard_error_of_their_mean(seeds):
    values = np.random.default_rng(seeds).normal(0.1, 0.05, size=seeds)
    draws = values[:, None] + normal(0.02, mean=0)
    pooled = over_seeds(trainings(values, draws), seed=1)
    assert pooled.point == pytest.approx(values.mean())
    assert pooled.seed_error == pytest.approx(stats.sem(values))
    assert pooled.over_images == pytest.approx(draws.mean(axis=0))
    part = (pooled.samples - pooled.over_images) / stats.sem(values)
    assert stats.kstest(part, stats.t(seeds - 1).cdf).pvalue > 0.01
    assert abs(stats.spearmanr(part, pooled.over_images).statistic) < 0.06, "apart from the images"
    found = interval(trainings(values, draws), seed=1)
    assert (found.low, found.high) == order_statistics(pooled.samples)
    assert (found.seeds, found.seed_error) == (seeds, pytest.approx(stats.sem(values)))


def test_samples_over_the_seeds_go_together_as_their_numbers_do():
    """A difference of two numbers has the difference of their samples, a negative one the negative, a curve each."""
    random = np.random.default_rng(2)
    first, second = ({seed: Measured(random.normal(), random.normal(size=99)) for seed in range(3)} for _ in "ab")
    samples = [over_seeds(one, seed=4).samples for one in (first, second)]
    difference = {seed: signed_sum([(1, first[seed]), (-1, second[seed])]) for seed in first}
    assert over_seeds(difference, seed=4).samples == pytest.approx(samples[0] - samples[1])
    curves = {seed: Measured(np.array([one.point, -one.point]), np.stack([one.samples, -one.samples], axis=1))
              for seed, one in first.items()}  # fmt: skip
    assert over_seeds(curves, seed=4).samples == pytest.approx(np.stack([samples[0], -samples[0]], axis=1))
    backwards = over_seeds(dict(reversed(first.items())), seed=4)
    assert backwards.samples.tolist() == samples[0].tolist(), "seeds are paired by their number, not by their place"


def test_a_number_without_resamples_varies_with_its_seeds_alone():
    assert over_seeds({0: Measured(0.3)}, seed=0).samples is None
    pooled = over_seeds({0: Measured(0.3), 1: Measured(0.5)}, seed=0, resamples=500)
    assert (pooled.over_images, pooled.samples.shape) == (None, (500,))
    assert np.median(pooled.samples) == pytest.approx(0.4, abs=0.03)


def test_resamples_without_ground_truth_are_left_out_and_counted():
    draws = normal(0.01)
    draws[:7] = np.nan
    found = interval({0: Measured(0.4, draws)}, seed=0)
    assert found.empty_resamples == 7
    assert found.image_error == pytest.approx(draws[7:].std(ddof=1))


def test_too_few_resamples_have_no_ends():
    found = interval({0: Measured(0.4, normal(0.01, resamples=38))}, seed=0)
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert math.isfinite(interval({0: Measured(0.4, normal(0.01, resamples=39))}, seed=0).low)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_over_images_and_seeds_covers_the_truth(seeds):
    """Trainings scatter by 0.004, and a share of it is chance on the images, which scatter by 0.003."""
    random, studies, covered = np.random.default_rng(seeds), 400, 0
    for study in range(studies):
        values = -0.01 + 0.003 * random.standard_normal() + 0.004 * random.standard_normal(seeds)
        draws = values[:, None] + 0.003 * random.standard_normal(199)
        found = interval(trainings(values, draws), seed=study)
        covered += found.low < -0.01 < found.high
    assert 0.93 <= covered / studies <= 0.995


def test_a_sum_is_the_same_to_the_last_digit_in_whichever_order_its_terms_stand():
    random = np.random.default_rng(3)
    terms = [(sign, Measured(random.random(), random.random(50))) for sign in (1, -1, -1, 1)]
    sums = [signed_sum(order) for order in itertools.permutations(terms)]
    assert {one.point for one in sums} == {sums[0].point}
    assert {tuple(one.samples) for one in sums} == {tuple(sums[0].samples)}
    assert sums[0].point == pytest.approx(sum(sign * term.point for sign, term in terms))
    mixed = signed_sum([(2, terms[0][1]), (1, Measured(0.5))])
    assert mixed.samples == pytest.approx(2 * terms[0][1].samples + 0.5)
    assert signed_sum([(1, Measured(0.5)), (-1, Measured(0.25))]) == Measured(0.25)


def test_a_number_is_the_mean_of_its_thresholds():
    curve = Measured(np.arange(10.0), np.arange(20.0).reshape(2, 10))
    for ends, mean in (((0.5, 0.5), 0), ((0.95, 0.95), 9), ((0.5, 0.65), 1.5), ((0.5, 0.95), 4.5)):
        found = read_off(curve, *ends)
        assert (found.point, found.samples.tolist()) == (mean, [mean, 10 + mean])


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
