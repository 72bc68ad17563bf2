"""What a design can decide, against trainings that are drawn and the intervals that the project makes of them."""

import math

import numpy as np
import pytest

from cascadebench.evidence.power.design import Design, least_effect, power
from cascadebench.uncertainty.curves import Measured
from cascadebench.uncertainty.intervals import order_statistics, over_seeds
from cascadebench.uncertainty.seed_scatter import SeedScatter

DESIGN = Design(seeds=3, seed_sd=0.3, image_se=0.2, questions=14, freedom=12)


@pytest.mark.parametrize(("seeds", "freedom"), [(2, 6), (3, 12), (3, 0), (5, 24)])
def test_it_is_how_often_intervals_of_drawn_trainings_decide(seeds, freedom):
    design = Design(seeds=seeds, seed_sd=0.3, image_se=0.2, questions=5, freedom=freedom)
    random, decided, studies, resamples = np.random.default_rng(0), 0, 400, 799
    effect, alone = 0.9, math.sqrt(design.by_chance)
    for study in range(studies):
        together = math.sqrt(0.04 - design.by_chance) * random.standard_normal(1 + resamples)
        own = alone * random.standard_normal((seeds, 1 + resamples))
        values = effect + together[0] + own[:, 0] + design.seed_sd * random.standard_normal(seeds)
        draws = values[:, None] + together[1:] + own[:, 1:]
        ratio = (design.seed_sd**2 / alone**2 + 1) * random.chisquare(freedom) / freedom if freedom else 0
        numbers = {seed: Measured(*pair) for seed, pair in enumerate(zip(values, draws, strict=True))}
        pooled = over_seeds(numbers, study, scatter=SeedScatter(ratio, freedom) if freedom else None)
        low, high = order_statistics(pooled.samples, 0.05 / design.questions)
        decided += low > 0 or high < 0
    assert power(design, effect).power == pytest.approx(decided / studies, abs=0.08)


def test_more_seeds_images_and_scatter_and_fewer_questions():
    of_design = power(DESIGN, 0.8).power
    for better in ({"seeds": 5}, {"image_se": 0.1}, {"seed_sd": 0.1}, {"questions": 2}):
        assert power(Design(**(vars(DESIGN) | better)), 0.8).power > of_design, better
    assert power(Design(**(vars(DESIGN) | {"freedom": 0})), 0.8).power < of_design
    assert power(DESIGN, -0.8).power == of_design
    assert power(DESIGN, 0).power <= 0.05 / 14


def test_the_standard_error():
    assert DESIGN.standard_error == pytest.approx(math.sqrt(0.02 + (0.09 + 0.02) / 3))


def test_the_least_effect_has_the_power_that_was_asked_for():
    for decided in (0.5, 0.8):
        assert power(DESIGN, least_effect(DESIGN, decided)).power == pytest.approx(decided, abs=1e-3)
    assert power(DESIGN, least_effect(DESIGN, 0.5)).critical == pytest.approx(least_effect(DESIGN, 0.5), rel=0.15)


def test_one_seed_decides_nothing():
    one = Design(seeds=1, seed_sd=0.1, image_se=0.1)
    assert (power(one, 100).power, least_effect(one)) == (0, math.inf)
