"""Intervals and p-values agree, and Holm's correction errs as seldom as it says."""

import numpy as np
import pytest

from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.holm import decision_p_value, holm, samples_needed
from cascadebench.evidence.verdicts import reading
from cascadebench.uncertainty.intervals import order_statistics

CLAIM = load_claims()["cascade-keeps-ap50"]
GREATER = CLAIM.model_copy(update={"asks": "greater", "margin": None})
LESS = CLAIM.model_copy(update={"asks": "less", "margin": None})
WITHIN = CLAIM.model_copy(update={"asks": "equal", "margin": 1.0})


def test_p_values_by_hand():
    samples = np.arange(1.0, 100.0) - 2  # -1, 0, 1, ..., 97
    assert decision_p_value(GREATER, samples) == pytest.approx(2 * 3 / 100)
    assert decision_p_value(LESS, samples) == decision_p_value(GREATER, samples)
    assert decision_p_value(GREATER, samples - 1000) == pytest.approx(2 / 100)
    assert decision_p_value(GREATER, np.zeros(99)) == 1.0


def test_p_values_of_within_by_hand():
    inside = np.linspace(-0.9, 0.9, 99)
    assert decision_p_value(WITHIN, inside) == pytest.approx(2 / 100)
    assert decision_p_value(WITHIN, np.append(inside[:-3], [1.0, 2.0, 3.0])) == pytest.approx(2 * 4 / 100)
    assert decision_p_value(WITHIN, inside + 5) == pytest.approx(2 / 100), "decided against it is decided too"
    assert decision_p_value(WITHIN, inside + 1) > 0.5


@pytest.mark.parametrize("claim", [GREATER, LESS, WITHIN], ids=lambda claim: claim.asks)
def test_the_p_value_is_the_smallest_level_that_decides(claim):
    rng = np.random.default_rng(1)
    decided = 0
    for _ in range(300):
        samples = rng.normal(rng.normal(0, 1.5), 0.5, size=199).round(1)  # rounded, so that there are ties
        for alpha in (0.2, 0.05, 0.01, 0.009):
            by_interval = reading(claim, order_statistics(samples, alpha)) != "inconclusive"
            assert by_interval == (decision_p_value(claim, samples) <= alpha + 1e-12)
            decided += by_interval
    assert 100 < decided < 1100, "both outcomes must have occurred"


def test_holm_by_hand():
    steps = holm([0.04, 0.001, 0.02, 0.012], 0.05)
    assert [step.adjusted for step in steps] == pytest.approx([0.04, 0.004, 0.04, 0.036])
    assert [step.level for step in steps] == pytest.approx([0.05, 0.0125, 0.025, 0.05 / 3])
    steps = holm([0.04, 0.001, 0.03], 0.05)
    assert [step.level for step in steps] == pytest.approx([0.025, 0.05 / 3, 0.025]), "0.03 fails at 0.025 and ends it"
    assert [step.adjusted for step in steps] == pytest.approx([0.06, 0.003, 0.06])
    assert holm([], 0.05) == []


def test_holm_decides_where_the_p_value_passes_its_level():
    rng = np.random.default_rng(2)
    for _ in range(200):
        p_values = list(rng.uniform(0, 1, size=8) ** 3)
        for p_value, step in zip(p_values, holm(p_values, 0.05), strict=True):
            assert (p_value <= step.level) == (step.adjusted <= 0.05)


def test_samples_needed():
    assert samples_needed(1, 0.05) == 39
    assert samples_needed(50, 0.05) == 1999
    claim = GREATER
    samples = np.ones(samples_needed(50, 0.05))
    assert decision_p_value(claim, samples) <= 0.05 / 50
    assert decision_p_value(claim, samples[1:]) > 0.05 / 50


def test_holm_keeps_wrong_decisions_anywhere_below_alpha_and_one_by_one_does_not():
    """Six true nulls of ten; every question is measured with a normal error and bootstrapped with the same."""
    rng = np.random.default_rng(3)
    studies, alpha, count = 800, 0.05, 10
    truth = np.array([0.0] * 6 + [0.5, 1.0, 3.0, 6.0])
    any_wrong, any_wrong_unadjusted, found, found_unadjusted = 0, 0, 0, 0
    noise = rng.standard_normal((1999, count))
    for _ in range(studies):
        samples = truth + rng.standard_normal(count) + noise[rng.permutation(1999)]
        p_values = [decision_p_value(GREATER, samples[:, number]) for number in range(count)]
        steps = holm(p_values, alpha)
        decided = np.array([p <= step.level for p, step in zip(p_values, steps, strict=True)])
        unadjusted = np.array(p_values) <= alpha
        wrong_side = np.median(samples, axis=0) < 0
        wrong = (truth == 0) | wrong_side
        any_wrong += (decided & wrong).any()
        any_wrong_unadjusted += (unadjusted & wrong).any()
        found += (decided & ~wrong).sum()
        found_unadjusted += (unadjusted & ~wrong).sum()
    # Three standard errors of a share of 5% in 800 studies are 2.3 points.
    assert any_wrong / studies <= alpha + 0.023
    assert any_wrong_unadjusted / studies > 0.2
    assert studies < found < found_unadjusted, "it finds what is there, if less often"
