"""Intervals of numbers made by hand."""

import numpy as np
import pytest
from test_bootstrap import larger_problem, matched

from cascadebench.core.errors import InputError
from cascadebench.uncertainty.bootstrap import bootstrap
from cascadebench.uncertainty.intervals import (
    QUANTITIES,
    absent_classes,
    absolute_interval,
    gap_interval,
    interval_table,
    quantities,
)


def normal(deviation, seeds=1, resamples=4000, mean=0.4):
    return np.random.default_rng(0).normal(mean, deviation, size=(seeds, resamples))


def test_quantities_are_means_over_the_classes_that_are_there():
    ap = np.full((2, 3, 10), -1.0)
    ap[0, 0], ap[0, 2] = np.linspace(0.9, 0, 10), 0.1
    found = quantities(ap)
    assert tuple(found) == QUANTITIES
    assert found["AP50"][0] == pytest.approx(0.5) and found["AP95"][0] == pytest.approx(0.05)
    assert found["AP"][0] == pytest.approx((0.45 + 0.1) / 2)
    assert all(np.isnan(values[1]) for values in found.values())
    assert quantities(ap, category=2)["AP75"][0] == pytest.approx(0.1)
    assert np.isnan(quantities(ap, category=1)["AP"]).all()


def test_absolute_interval_is_1_96_standard_errors_to_each_side():
    draws = normal(0.01, mean=0.43)
    interval = absolute_interval(np.array([0.4]), draws)
    assert interval.value == 0.4
    assert interval.high - 0.4 == pytest.approx(0.4 - interval.low) == pytest.approx(1.96 * draws.std(ddof=1))
    assert interval.bias == pytest.approx(0.03, abs=1e-3)
    assert (interval.seeds, interval.resamples, interval.empty_resamples) == (1, 4000, 0)
    assert np.isnan(interval.seed_error)


def test_gap_interval_is_percentiles():
    draws = normal(0.01) ** 3
    interval = gap_interval(np.array([0.06]), draws, seed=0)
    assert (interval.low, interval.high) == tuple(np.percentile(draws[0], (2.5, 97.5)))


def test_parts_of_several_seeds():
    values = np.array([0.1, 0.2, 0.4])
    # The same images for all seeds: their errors do not average out.
    draws = values[:, None] + normal(0.02, mean=0)
    seed_error = values.std(ddof=1) / np.sqrt(3)
    for interval in (absolute_interval(values, draws), gap_interval(values, draws, seed=1)):
        assert interval.value == pytest.approx(values.mean())
        assert interval.image_error == pytest.approx(0.02, rel=0.05)
        assert interval.seed_error == pytest.approx(seed_error)
        assert interval.standard_error == pytest.approx(np.hypot(interval.image_error, seed_error))
        assert interval.seeds == 3


def test_two_levels_scatter_as_both_parts_together():
    values = np.random.default_rng(2).normal(0.1, 0.05, size=12)
    draws = values[:, None] + normal(0.01, mean=0, resamples=20000)
    interval = gap_interval(values, draws, seed=1)
    half = (interval.high - interval.low) / 2
    assert half == pytest.approx(1.96 * interval.widening * interval.standard_error, rel=0.05)


def test_few_seeds_widen_the_interval():
    values = np.array([0.1, 0.2, 0.3])
    # Student's t with two degrees of freedom where images change next to nothing, the normal one where they are all.
    for deviation, quantile in ((0.001, 4.303), (10.0, 1.96)):
        draws = values[:, None] + normal(deviation, mean=0)
        for interval in (absolute_interval(values, draws), gap_interval(values, draws, seed=0)):
            assert interval.widening == pytest.approx(quantile / 1.96, rel=1e-3)
        interval = absolute_interval(values, draws)
        assert interval.high - interval.value == pytest.approx(quantile * interval.standard_error, rel=1e-3)
    assert absolute_interval(values[:1], normal(0.01)).widening == 1


def test_what_each_training_finds_on_these_images_is_counted_once():
    """Seeds that differ only by chance on the images have no part of their own; the images' part has it."""
    random = np.random.default_rng(3)
    own_parts, together, expected = [], [], []
    for _ in range(300):
        # 6 trainings, 50 images: an effect of the image, and one of training and image; none of the training alone.
        scores = random.normal(size=50) + random.normal(0, 2, size=(6, 50))
        weights = random.multinomial(50, np.full(50, 0.02), size=400)
        interval = gap_interval(scores.mean(axis=1), scores @ weights.T / 50, seed=0)
        own_parts.append(interval.seed_error**2)
        together.append(interval.standard_error**2)
        expected.append((1 + 4 / 6) / 50)
    assert np.mean(together) == pytest.approx(np.mean(expected), rel=0.15)
    # Next to nothing, where the seeds' scatter alone would say 4 / 50 / 6.
    assert np.mean(own_parts) < 0.4 * 4 / 50 / 6


def test_resamples_without_ground_truth_are_left_out_and_counted():
    draws = normal(0.01, resamples=100)
    draws[0, :7] = np.nan
    for interval in (absolute_interval(np.array([0.4]), draws), gap_interval(np.array([0.4]), draws, seed=0)):
        assert interval.empty_resamples == 7
        assert interval.image_error == pytest.approx(draws[0, 7:].std(ddof=1))


@pytest.fixture(scope="module")
def resampled():
    truth, results = larger_problem()
    table, matches = matched(truth, results)
    sets = {"a, seed 0": matches}
    for name, scale in (("a, seed 1", 0.97), ("b, seed 0", 0.9), ("b, seed 1", 0.85)):
        worse = [
            result | {"bbox": [scale * value for value in result["bbox"]]} if n % 3 else result
            for n, result in enumerate(results)
        ]
        sets[name] = matched(truth, worse)[1]
    return bootstrap(table, sets, seed=7, resamples=300)


MODELS = {"a": ["a, seed 0", "a, seed 1"], "b": ["b, seed 0", "b, seed 1"], "c": ["a, seed 0"]}


def test_table(resampled):
    table = interval_table(resampled, MODELS, [("a", "b"), ("a", "a")])
    assert len(table) == 5 * len(QUANTITIES)
    rows = table.set_index(["model", "minus", "quantity"])
    ap = quantities(resampled.ap["a, seed 0"])["AP"], quantities(resampled.ap["a, seed 1"])["AP"]
    assert rows.loc[("a", "", "AP"), "value"] == pytest.approx(np.mean(ap))
    gap = rows.loc[("a", "b", "AP")]
    assert gap["value"] == pytest.approx(rows.loc[("a", "", "AP"), "value"] - rows.loc[("b", "", "AP"), "value"])
    assert gap["low"] < gap["value"] < gap["high"]
    # Paired: the images that are hard for one are hard for the other.
    errors = [rows.loc[(name, "", "AP"), "image_error"] for name in ("a", "b")]
    assert gap["image_error"] < np.hypot(*errors)
    assert (table[(table["model"] == "a") & (table["minus"] == "a")][["value", "low", "high"]] == 0).all(axis=None)
    assert (rows[["resamples", "bootstrap_seed"]].to_numpy() == (300, 7)).all()
    assert np.isnan(rows.loc[("c", "", "AP"), "seed_error"])
    assert interval_table(resampled, MODELS, [("a", "b")]).equals(table.iloc[: 4 * len(QUANTITIES)])


def test_absent_classes_are_the_same_for_all_sets(resampled):
    absent = absent_classes(resampled)
    assert absent.shape == (300,)
    for name in resampled.draws:
        np.testing.assert_array_equal((resampled.draws[name][..., 0] < 0).sum(axis=1), absent)


def test_gap_of_unequal_numbers_of_seeds_is_refused(resampled):
    with pytest.raises(InputError, match="gap a - c: 2 seeds and 1; pair them"):
        interval_table(resampled, MODELS, [("a", "c")])
