"""Quantities from made-up measurements: terms, places, ratios, seeds, what is missing."""

import numpy as np
import pytest
from made_up import SAMPLES, make_run

from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.quantities import Estimate, Key, MeasuredRun, NotMeasured, estimate
from cascadebench.uncertainty.curves import Measured

CLAIMS = load_claims()


def curve(values, shift=0.0):
    point = np.asarray(values, dtype=float)
    return Measured(point, point + shift * np.linspace(-1, 1, SAMPLES)[:, None])


def cascade_with(curves, seed=0, options=None, name="cascade_rcnn", **more):
    run = make_run(name, options, seed=seed)
    return MeasuredRun(run, curves={(label, "all"): value for label, value in curves.items()}, **more)


def test_the_gap_of_gaps_over_a_range_of_iou():
    low = np.array([1.0, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    cascade = cascade_with({"(3,3)": curve(0.40 * low), "(2,2)": curve(0.42 * low, shift=0.01)})
    shared = cascade_with({"(3,3)": curve(0.45 * low), "(2,2)": curve(0.44 * low)}, name="fscascade")
    found = estimate(CLAIMS["fscascade-narrows-gap"], [cascade, shared])
    assert found.point == pytest.approx((0.45 - 0.44) - (0.40 - 0.42))
    assert found.samples == pytest.approx(0.03 + 0.01 * np.linspace(-1, 1, SAMPLES)), "paired sample by sample"
    assert found.sampling == "images"
    assert found.notes == ("one seed: the interval does not hold what another training would change",)
    assert found.runs == (shared.run, cascade.run)


def test_ap_outside_the_range_does_not_count():
    high = np.array([0, 0, 0, 0, 1.0, 1, 1, 1, 1, 1])
    cascade = cascade_with({"(3,3)": curve(0.4 * high), "(2,2)": curve(0.1 * high)})
    assert estimate(CLAIMS["cascade-loses-low-iou"], [cascade]).point == 0


def test_stages_of_a_detector_with_one_classifier_and_the_headline():
    claim = CLAIMS["cascaded-regression-gains-ap"]
    options = {"regression": "class_specific"}
    three = cascade_with({"(3,1)": curve([0.4] * 10)}, name="decoupled_rcnn", options=options)
    one = cascade_with({"(1,1)": curve([0.3] * 10)}, name="decoupled_rcnn", options=options | {"stages": 1})
    assert estimate(claim, [three, one]).point == pytest.approx(0.1)
    last = claim.quantity[0].model_copy(update={"at": "stage T"})
    at_stage = claim.model_copy(update={"quantity": (last, claim.quantity[1])})
    assert estimate(at_stage, [three, one]).point == pytest.approx(0.1), "stage 3 with the only classifier is (3,1)"


def test_areas():
    flat = {("(3,1-3) last RoIs", "large"): 0.5, ("(3,1-3) last RoIs", "small"): 0.2}
    cascade = MeasuredRun(make_run("cascade_rcnn"), curves={key: curve([ap] * 10) for key, ap in flat.items()})
    base = {("(1,1)", "large"): 0.4, ("(1,1)", "small"): 0.17}
    faster = MeasuredRun(make_run(), curves={key: curve([ap] * 10) for key, ap in base.items()})
    assert estimate(CLAIMS["large-objects-gain-more"], [cascade, faster]).point == pytest.approx(0.1 - 0.03)


def test_a_ratio_of_counts_is_exact():
    def counted(name, parameters, seed=0):
        others = {Key("trainable_parameters"): Measured(parameters)}
        return MeasuredRun(make_run(name, seed=seed), "failed: out of memory", others=others)

    runs = [
        counted(name, number, seed) for seed in (0, 1) for name, number in (("fscascade", 71), ("cascade_rcnn", 69))
    ]
    found = estimate(CLAIMS["fscascade-adds-few-parameters"], runs)
    assert (found.point, found.samples, found.sampling) == (71 / 69, None, "exact")


def test_recall_of_proposals_and_statistics_of_scores():
    recall = {Key("proposal_AR1000", f"stage {stage}"): Measured(value) for stage, value in ((1, 0.587), (2, 0.707))}
    run = MeasuredRun(make_run("cascade_rcnn"), others=recall)
    found = estimate(CLAIMS["regression-raises-proposal-recall"], [run])
    assert found.point == pytest.approx(0.12)
    assert (found.samples, found.sampling) == (None, "none")
    spread = Key("score_std", "(3,3)", (0.5, 0.75))
    runs = [
        MeasuredRun(make_run(name), others={spread: Measured(value, np.full(SAMPLES, value))})
        for name, value in (("fscascade", 0.2), ("cascade_rcnn", 0.3))
    ]
    assert estimate(CLAIMS["fscascade-balances-scores"], runs).point == pytest.approx(-0.1)


def test_seeds_add_what_differs_between_them():
    claim = CLAIMS["cascade-loses-low-iou"]
    gaps = {0: -0.01, 1: -0.02, 2: -0.03}
    runs = [
        cascade_with({"(3,3)": curve([0.4 + gap] * 10, shift=0.001), "(2,2)": curve([0.4] * 10)}, seed=seed)
        for seed, gap in gaps.items()
    ]
    found = estimate(claim, runs)
    assert found.point == pytest.approx(-0.02)
    assert found.by_seed == pytest.approx(gaps)
    assert (found.sampling, found.notes) == ("images and seeds", ())
    # 95% of Student's t with two degrees of freedom lie within 4.30, times the standard error 0.01/sqrt(3).
    low, high = np.quantile(found.samples, [0.025, 0.975])
    assert high - low == pytest.approx(2 * 4.303 * 0.01 / np.sqrt(3), rel=0.15)
    assert np.array_equal(estimate(claim, runs).samples, found.samples), "the draws are the same every time"
    equal = [cascade_with({"(3,3)": curve([0.4] * 10, 0.001), "(2,2)": curve([0.4] * 10)}, seed=s) for s in (0, 1, 2)]
    assert np.ptp(estimate(claim, equal).samples) == pytest.approx(0.002), "equal seeds leave the images' part alone"


def test_a_seed_that_failed_is_left_out_and_told():
    claim = CLAIMS["cascade-loses-low-iou"]
    good = cascade_with({"(3,3)": curve([0.3] * 10), "(2,2)": curve([0.4] * 10)})
    bad = MeasuredRun(make_run("cascade_rcnn", seed=1), "failed: train: loss is not finite")
    found = estimate(claim, [good, bad])
    assert isinstance(found, Estimate)
    assert found.by_seed == pytest.approx({0: -0.1})
    assert found.notes[0] == "left out: cascade_rcnn: failed: train: loss is not finite, seed 1"


def test_missing_runs_are_named():
    claim = CLAIMS["fscascade-narrows-gap"]
    assert estimate(claim, []) == NotMeasured(("the study has no runs",))
    cascade = cascade_with({"(3,3)": curve([0.3] * 10)})
    failed = MeasuredRun(make_run("fscascade"), "not run")
    found = estimate(claim, [cascade, failed])
    assert found.missing == ("fscascade: not run, seed 0", "cascade_rcnn: AP at (2,2) was not measured, seed 0")
    other_options = cascade_with({}, name="fscascade", options={"merge": "sum"})
    found = estimate(claim, [cascade, other_options])
    assert found.missing[0] == "fscascade: not in the study, seed 0"


def test_samples_without_a_value_are_left_out_and_counted():
    claim = CLAIMS["cascade-loses-low-iou"]
    holed = curve([0.4] * 10)
    holed.samples[:5] = np.nan
    found = estimate(claim, [cascade_with({"(3,3)": holed, "(2,2)": curve([0.4] * 10)})])
    assert np.isnan(found.samples).nonzero()[0].tolist() == [0, 1, 2, 3, 4]
    assert found.sample_count == SAMPLES - 5
    assert found.notes[0] == f"5 of {SAMPLES} bootstrap samples have no value"
    nothing = estimate(claim, [cascade_with({"(3,3)": curve([np.nan] * 10), "(2,2)": curve([0.4] * 10)})])
    assert nothing.missing == ("cascade_rcnn: AP at (3,3) was not measured, seed 0",)


def test_a_ratio_divides_sample_by_sample():
    claim = CLAIMS["fscascade-balances-scores"]
    above, below = claim.quantity[0], claim.quantity[1].model_copy(update={"coefficient": 1.0})
    ratio = claim.model_copy(update={"quantity": (above,), "divided_by": (below,)})
    spread = Key("score_std", "(3,3)", (0.5, 0.75))
    common = np.linspace(1, 2, SAMPLES)
    runs = [
        MeasuredRun(make_run(name), others={spread: Measured(value, value * common)})
        for name, value in (("fscascade", 0.2), ("cascade_rcnn", 0.4))
    ]
    found = estimate(ratio, runs)
    assert found.point == pytest.approx(0.5)
    assert found.samples == pytest.approx(np.full(SAMPLES, 0.5)), "what the images change in both cancels"
