"""Every verdict, in both directions, from made-up measurements."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import SAMPLES, make_run

from cascadebench.controls.findings import Audit, Finding
from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.quantities import Estimate, Key, MeasuredRun, NotMeasured
from cascadebench.evidence.verdicts import Question, judge, reading, study_verdicts
from cascadebench.uncertainty.curves import Measured

CLAIMS = load_claims()
CLEAN = Audit("made up", 2, 97, ())
SPREAD = np.linspace(-1, 1, SAMPLES)


def flat(run, aps, scatter=0.0, **more):
    """A run whose AP is flat over IoU; samples scatter evenly around it."""
    curves = {
        (label, "all"): Measured(np.full(10, ap), np.tile((ap + scatter * SPREAD)[:, None], (1, 10)))
        for label, ap in aps.items()
    }
    return MeasuredRun(run, curves=curves, **more)


def cascade(gap, scatter=0.001, **about):
    run = make_run("cascade_rcnn", **about)
    last = flat(run, {"(3,3)": 0.4 + gap}, scatter).curves
    before = flat(run, {"(2,2)": 0.4}).curves
    return MeasuredRun(run, curves=last | before)


def twice(runs):
    """The same measured in a second training of each, so that the interval is that of the images."""
    return [twin for one in runs for twin in (one, replace(one, run=one.run.model_copy(update={"seed": 1})))]


def one(claim, *runs, audit=CLEAN, **more):
    """The verdict on a claim; runs of one seed are taken twice."""
    several = len({one.run.seed for one in runs}) > 1
    (verdict,) = study_verdicts([CLAIMS[claim]], runs if several else twice(runs), audit, **more)
    return verdict


def runs_of(claim, value, scatter):
    """Runs in which the claim's quantity has this value."""
    if claim == "cascade-loses-low-iou":
        return [cascade(value, scatter)]
    name, stage = {
        "cascade-gains-ap": ("cascade_rcnn", "(3,1-3) last RoIs"),
        "iterative-bbox-is-marginal": ("iterative_bbox", "(3,3)"),
    }[claim]
    return [flat(make_run(name), {stage: 0.4 + value}, scatter), flat(make_run(), {"(1,1)": 0.4})]


@pytest.mark.parametrize(
    ("claim", "value", "scatter", "word"),
    [
        ("cascade-loses-low-iou", -0.01, 0.001, "supported"),
        ("cascade-loses-low-iou", 0.01, 0.001, "not supported"),
        ("cascade-loses-low-iou", -0.01, 0.02, "inconclusive"),
        ("cascade-loses-low-iou", 0.0, 0.0, "inconclusive"),
        ("cascade-gains-ap", 0.03, 0.001, "supported"),
        ("cascade-gains-ap", 0.01, 0.001, "not supported"),
        ("cascade-gains-ap", 0.02, 0.001, "inconclusive"),
        ("iterative-bbox-is-marginal", 0.003, 0.001, "supported"),
        ("iterative-bbox-is-marginal", 0.02, 0.001, "not supported"),
        ("iterative-bbox-is-marginal", -0.02, 0.001, "not supported"),
        ("iterative-bbox-is-marginal", 0.009, 0.005, "inconclusive"),
        ("iterative-bbox-is-marginal", 0.0, 0.5, "inconclusive"),
    ],
)
def test_less_than_greater_than_and_within_thresholds(claim, value, scatter, word):
    verdict = one(claim, *runs_of(claim, value, scatter))
    assert (verdict.word, verdict.reading, verdict.unadjusted_reading) == (word, word, word)
    assert verdict.point == pytest.approx(value)
    assert verdict.interval == pytest.approx((value + SPREAD[49] * scatter, value + SPREAD[-50] * scatter))
    assert verdict.adjusted_interval == verdict.interval, "a family of one"
    assert (verdict.framework, verdict.backbone) == ("mmdet", "resnet50")


@pytest.mark.parametrize(("parameters", "word"), [(71.0, "supported"), (80.0, "not supported")])
def test_an_exact_quantity(parameters, word):
    runs = [
        MeasuredRun(make_run(name), others={Key("trainable_parameters"): Measured(number)})
        for name, number in (("fscascade", parameters), ("cascade_rcnn", 69.0))
    ]
    verdict = one("fscascade-adds-few-parameters", *runs)
    assert verdict.word == word
    assert verdict.interval == (parameters / 69, parameters / 69)
    assert (verdict.p_value, verdict.adjusted_p_value) == (None, None)


def recall_of(*seeds):
    """Runs whose proposals gain 0.2."""
    others = {Key("proposal_AR1000", f"stage {stage}"): Measured(value) for stage, value in ((1, 0.5), (2, 0.7))}
    return [MeasuredRun(make_run("cascade_rcnn", seed=seed), others=others) for seed in seeds]


def test_not_run():
    verdict = one("fscascade-narrows-gap", cascade(-0.01), MeasuredRun(make_run("fscascade"), "failed: no memory"))
    assert (verdict.word, verdict.point, verdict.reading) == ("not run", None, None)
    assert verdict.reasons == ("fscascade: failed: no memory, seed 0", "fscascade: failed: no memory, seed 1")
    verdict = one("fscascade-narrows-gap", cascade(-0.01))
    assert verdict.reasons == ("fscascade: not in the study, seed 0", "fscascade: not in the study, seed 1")


@pytest.mark.parametrize("claim", ["cascade-loses-low-iou", "cascade-gains-ap", "iterative-bbox-is-marginal"])
@pytest.mark.parametrize("value", [-0.3, 0.3])
def test_one_seed_decides_nothing_however_large_the_effect(claim, value):
    (verdict,) = study_verdicts([CLAIMS[claim]], runs_of(claim, value, 0.001), CLEAN)
    assert (verdict.word, verdict.reading, verdict.unadjusted_reading) == ("one seed",) * 3
    assert verdict.point == pytest.approx(value)
    assert verdict.interval == pytest.approx((value + SPREAD[49] * 0.001, value + SPREAD[-50] * 0.001))
    assert (verdict.adjusted_interval, verdict.p_value, verdict.adjusted_p_value, verdict.level) == (None,) * 4
    assert "one seed: the interval does not hold what another training would change" in verdict.notes
    assert one(claim, *runs_of(claim, value, 0.001)).word in ("supported", "not supported"), "two do"


def test_one_measurement_without_an_error_is_one_seed_too():
    (verdict,) = study_verdicts([CLAIMS["regression-raises-proposal-recall"]], recall_of(0), CLEAN)
    assert (verdict.word, verdict.interval) == ("one seed", None)
    assert verdict.point == pytest.approx(0.2)
    assert "one measurement: its error is not known" in verdict.notes


def test_a_seed_that_is_left_of_several_is_one_seed():
    runs = twice([cascade(-0.01)])
    (verdict,) = study_verdicts(
        [CLAIMS["cascade-loses-low-iou"]], [runs[0], replace(runs[1], problem="failed: no memory", curves={})], CLEAN
    )
    assert (verdict.word, verdict.reasons) == ("one seed", ())
    assert "left out: cascade_rcnn: failed: no memory, seed 1" in verdict.notes


def test_what_more_seeds_would_not_mend_is_not_comparable():
    """Data that are not the claim's go before seeds that are missing, and of one seed nothing is read there either."""
    claim = load_claims()["cascade-loses-low-iou"]
    (verdict,) = study_verdicts([claim], [cascade(-0.01, dataset="blood_cells")], CLEAN)
    assert (verdict.word, verdict.reading) == ("not comparable", "one seed")
    assert verdict.reasons == ("data: blood_cells here, coco2017 in the source",)


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"dataset": "blood_cells"}, "data: blood_cells here, coco2017 in the source"),
        (
            {"schedule": {"iterations": 1000, "steps": [800], "warmup_iterations": 10}},
            "training: 16,000 images here, 1,407,192 in the source (1x)",
        ),
        ({"backbone": "resnet18_narrow"}, "backbone: resnet18_narrow here, resnet50 in the source"),
    ],
)
def test_not_comparable_and_still_measured(about, reason):
    verdict = one("cascade-loses-low-iou", cascade(-0.01, **about))
    assert verdict.word == "not comparable"
    assert reason in verdict.reasons
    assert (verdict.reading, verdict.unadjusted_reading) == ("supported", "supported")
    assert verdict.point == pytest.approx(-0.01)
    assert verdict.interval[1] < 0


def test_two_schedules_of_one_length_and_another_framework_are_comparable():
    longer = {"iterations": 87960, "steps": [58640, 80630]}
    for about in ({}, {"schedule": longer}, {"framework": "detectron2"}):
        assert one("cascade-loses-low-iou", cascade(-0.01, **about)).word == "supported"


def test_settings_of_a_schedule_of_one_length_are_told_beside_the_verdict():
    """Cascade R-CNN's claims are of 8 images, 0.005 and 256 RoIs; the study trains with 16, 0.02 and 512."""
    told = (
        "batch size: 16 here, 8 in the source",
        "learning rate: 0.02 here, 0.005 in the source",
        "drops of the rate: 67%, 89% here, 67% in the source",
    )
    verdict = one("last-stage-loses-ap50", cascade(-0.01))
    assert verdict.word == "supported"
    assert verdict.notes[:3] == told
    assert "RoIs per image: 512 here, 256 in the source" in verdict.notes
    verdict = one("last-stage-loses-ap50", cascade(-0.01, protocol="cascade_fpn_plus"))
    assert verdict.word == "supported"
    told = [note.split(":")[0] for note in verdict.notes if " in the source" in note]
    assert not set(told) & {"batch size", "learning rate", "drops of the rate", "RoIs per image", "training"}


def test_what_the_source_does_not_say_of_its_schedule_is_told():
    notes = one("cascade-loses-low-iou", cascade(-0.01)).notes
    assert "not given in the source: batch size, learning rate, RoIs per image" in notes
    notes = one("regression-raises-proposal-recall", *recall_of(0)).notes
    assert notes[0] == "training: 1,440,000 images here, and the source's schedule (not given) is not known in numbers"


def test_a_schedule_for_other_data_is_not_compared():
    verdict = one("last-stage-loses-ap50", cascade(-0.01, dataset="blood_cells"))
    assert not any("batch size" in note for note in verdict.notes)


def test_other_initial_weights_of_the_same_network_are_comparable():
    run = cascade(-0.01).run
    renamed = run.model_copy(update={"backbone": run.backbone.model_copy(update={"name": "resnet50_caffe"})})
    verdict = one("cascade-loses-low-iou", MeasuredRun(renamed, curves=cascade(-0.01).curves))
    assert (verdict.word, verdict.backbone) == ("supported", "resnet50_caffe")


@pytest.mark.parametrize("resampled", [True, False])
def test_the_part_of_the_training_seeds_is_drawn_as_the_study_asks(resampled):
    """With the study's seed and, where no images are resampled, its number of resamples."""
    values, draws = np.array([0.01, 0.02, 0.06]), SAMPLES if resampled else 399
    if resampled:
        claim, runs = "cascade-loses-low-iou", [cascade(gap, 0.0, seed=seed) for seed, gap in enumerate(values)]
    else:
        claim, runs = "regression-raises-proposal-recall", []
        for seed, gain in enumerate(values):
            others = {Key("proposal_AR1000", f"stage {stage}"): Measured(0.5 + (stage - 1) * gain) for stage in (1, 2)}
            runs.append(MeasuredRun(make_run("cascade_rcnn", seed=seed), others=others))
    random = np.random.default_rng([5, draws, 3])  # as docs/evidence.md says
    normal, spread = random.standard_normal((3, draws)), random.chisquare(2, draws)
    samples = np.sort(values.mean() + (values - values.mean()) @ normal / np.sqrt(3 * spread))
    place = (draws + 1) // 40
    verdict = one(claim, *runs, seed=5, resamples=399)
    assert verdict.interval == pytest.approx((samples[place - 1], samples[-place]))


def finding(kind, run, other_run="", check="protocol"):
    return Finding(kind, check, "rpn.nms_iou", run.id, other_run, reason="0.8 and 0.7")


def test_a_violation_of_the_controls_is_not_comparable():
    run = cascade(-0.01)
    audit = Audit("made up", 1, 97, (finding("violation", run.run),))
    verdict = one("cascade-loses-low-iou", run, audit=audit)
    assert verdict.word == "not comparable"
    assert verdict.reasons == (f"audit: rpn.nms_iou of {run.run.id}: 0.8 and 0.7",)
    assert verdict.point == pytest.approx(-0.01)
    verdict = one("cascade-loses-low-iou", run, audit=None)
    assert verdict.reasons == ("the controls were not audited",)


def test_a_violation_spoils_the_runs_that_it_is_about():
    run, other = cascade(-0.01), make_run("fscascade")
    for check, spoiled in (("treatment", False), ("frameworks", True), ("seeds", True)):
        audit = Audit("made up", 2, 97, (finding("violation", other, run.run.id, check),))
        assert (one("cascade-loses-low-iou", run, audit=audit).word == "not comparable") == spoiled, check


def test_an_accepted_violation_is_a_note():
    run = cascade(-0.01)
    audit = Audit("made up", 1, 97, (finding("accepted", run.run), finding("framework difference", run.run)))
    verdict = one("cascade-loses-low-iou", run, audit=audit)
    assert verdict.word == "supported"
    assert [note for note in verdict.notes if "violation" in note] == ["accepted violation: rpn.nms_iou: 0.8 and 0.7"]
    assert not any("framework difference" in note for note in verdict.notes)


def test_many_violations_are_counted():
    run = cascade(-0.01)
    audit = Audit("made up", 1, 97, tuple(finding("violation", run.run) for _ in range(9)))
    reasons = one("cascade-loses-low-iou", run, audit=audit).reasons
    assert (len(reasons), reasons[-1]) == (6, "audit: 4 more violations")


def test_every_framework_and_backbone_is_asked():
    runs = [cascade(-0.01), cascade(0.01, framework="detectron2"), cascade(-0.01, backbone="resnet18_narrow")]
    claims = [CLAIMS["cascade-loses-low-iou"], CLAIMS["last-stage-loses-ap50"]]
    verdicts = study_verdicts(claims, twice(runs), CLEAN)
    assert [(one.claim.id, one.framework, one.backbone, one.word) for one in verdicts[:3]] == [
        ("cascade-loses-low-iou", "mmdet", "resnet50", "supported"),
        ("cascade-loses-low-iou", "detectron2", "resnet50", "not supported"),
        ("cascade-loses-low-iou", "mmdet", "resnet18_narrow", "not comparable"),
    ]
    assert len(verdicts) == 6


def question(samples, claim="cascade-loses-low-iou", reasons=(), seeds=2):
    answer = Estimate(float(np.mean(samples)), np.asarray(samples), "images", dict.fromkeys(range(seeds), 0.0), ())
    return Question(CLAIMS[claim], "mmdet", "resnet50", answer, reasons)


def test_many_claims_widen_the_interval_and_may_change_the_verdict():
    # 1.5% of these samples lie above zero: decided alone, not decided among ten.
    doubtful = np.where(np.arange(SAMPLES) < 0.015 * SAMPLES, 0.001, -0.01) + 1e-6 * SPREAD
    (alone,) = judge([question(doubtful)])
    assert (alone.word, alone.adjusted_p_value) == ("supported", alone.p_value)
    noise = [question(0.01 * SPREAD) for _ in range(9)]
    among, *others = judge([question(doubtful), *noise])
    assert (among.word, among.unadjusted_reading) == ("inconclusive", "supported")
    assert among.interval == alone.interval
    assert among.adjusted_interval[1] > 0 > among.interval[1]
    assert among.adjusted_p_value == pytest.approx(10 * alone.p_value)
    assert {one.word for one in others} == {"inconclusive"}


def test_what_is_decided_makes_the_next_level_less_strict():
    clear = question(-1 + 0.01 * SPREAD)
    doubtful = np.where(np.arange(SAMPLES) < 0.012 * SAMPLES, 0.001, -0.01) + 1e-6 * SPREAD
    first, second = judge([clear, question(doubtful)])
    assert (first.word, second.word) == ("supported", "supported")
    assert second.adjusted_interval == second.interval, "the last of the family is judged at the study's own level"
    assert first.adjusted_interval[0] < first.interval[0]


def test_what_is_not_comparable_counts_in_the_family():
    doubtful = np.where(np.arange(SAMPLES) < 0.015 * SAMPLES, 0.001, -0.01) + 1e-6 * SPREAD
    noise = [question(0.01 * SPREAD, reasons=("data",)) for _ in range(9)]
    assert judge([question(doubtful), *noise])[0].word == "inconclusive"


def test_exact_and_missing_quantities_and_single_seeds_are_no_part_of_the_family():
    exact = Question(
        CLAIMS["fscascade-adds-few-parameters"], "mmdet", "resnet50", Estimate(1.03, None, "exact", {0: 1.03}, ())
    )
    missing = Question(CLAIMS["cascade-gains-ap"], "mmdet", "resnet50", NotMeasured(("cascade_rcnn: not run",)))
    single = question(-1 + 0.01 * SPREAD, seeds=1)
    verdicts = judge([question(-1 + 0.01 * SPREAD), *[exact] * 5, *[missing] * 5, *[single] * 5])
    assert verdicts[0].adjusted_p_value == verdicts[0].p_value
    assert [one.word for one in verdicts] == ["supported"] * 6 + ["not run"] * 5 + ["one seed"] * 5


def test_too_few_bootstrap_samples_are_told():
    few = [question(-1 + 0.01 * np.linspace(-1, 1, 99)) for _ in range(10)]
    verdicts = judge(few)
    assert {one.word for one in verdicts} == {"inconclusive"}
    assert verdicts[0].unadjusted_reading == "supported"
    assert verdicts[0].notes[-1] == "99 bootstrap samples; a decision among 10 questions needs 399"
    assert not np.isfinite(verdicts[0].adjusted_interval).any()
    assert {one.word for one in judge([question(-1 + 0.01 * np.linspace(-1, 1, 399))] * 10)} == {"supported"}


def test_touching_the_threshold_is_spanning_it():
    less, within = CLAIMS["cascade-loses-low-iou"], CLAIMS["iterative-bbox-is-marginal"]
    assert reading(less, (-0.01, 0.0)) == "inconclusive"
    assert reading(less, (0.0, 0.01)) == "inconclusive"
    assert reading(within, (-0.01, 0.0)) == "inconclusive"
    assert reading(within, (0.01, 0.02)) == "inconclusive"
    assert reading(within, (-0.02, 0.02)) == "inconclusive"


def test_a_study_without_claims_or_runs():
    assert study_verdicts([], [cascade(-0.01)], CLEAN) == []
    assert study_verdicts([CLAIMS["cascade-gains-ap"]], [], CLEAN) == []
