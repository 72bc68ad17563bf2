"""Claims that nothing is worse or different: a margin decides, and an interval that holds zero shows neither."""

import numpy as np
import pytest
from made_up import SAMPLES, make_run
from made_up_results import misses, study_of, write_clean_audit, write_run, write_truth

from cascadebench.controls.findings import Audit, Finding
from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.hypotheses import AGREEMENT_MARGIN, agreement_claims
from cascadebench.evidence.quantities import MeasuredRun
from cascadebench.evidence.readings import formula
from cascadebench.evidence.study_measurements import measure_study
from cascadebench.evidence.verdicts import reading, study_verdicts
from cascadebench.metrics.coco.detections import read_detections, write_detections
from cascadebench.study_loading import load_study
from cascadebench.uncertainty.curves import Measured
from cascadebench.uncertainty.intervals import order_statistics
from cascadebench.uncertainty.resampled_study import ResampledStudy

CLEAN = Audit("made up", 2, 97, ())
NO_WORSE, EQUAL = load_claims()["cascade-keeps-ap50"], load_claims()["iterative-bbox-is-marginal"]
NO_BETTER = load_claims()["fscascade-needs-no-ensemble"]
NORMAL = np.random.default_rng(0).standard_normal(SAMPLES)


def flat(run, stage, ap, image_error=0.0):
    """A run whose AP is the same at every IoU, with normal samples."""
    return MeasuredRun(run, curves={(stage, "all"): Measured(np.full(10, ap), _samples(ap, image_error))})


def _samples(ap, image_error):
    return np.tile((ap + image_error * NORMAL)[:, None], (1, 10))


def verdict(claim, difference, image_error, seed_spread=0.0005):
    """On a claim about a detector and the baseline, over three seeds around a difference."""
    first = claim.quantity[0]
    stage = {"cascade-keeps-ap50": "(3,1-3) last RoIs"}.get(claim.id, "(3,3)")
    runs = []
    for seed, away in enumerate((-seed_spread, 0.0, seed_spread)):
        runs += [
            flat(make_run(first.variant, seed=seed), stage, 0.4 + difference + away, image_error),
            flat(make_run(seed=seed), "(1,1)", 0.4),
        ]
    (found,) = study_verdicts([claim], runs, CLEAN)
    return found.word


@pytest.mark.parametrize(
    ("claim", "difference", "image_error", "word"),
    [
        (NO_WORSE, 0.02, 0.001, "supported"),  # truly better
        (NO_WORSE, 0.0, 0.001, "supported"),
        (NO_WORSE, 0.0, 0.01, "inconclusive"),
        (NO_WORSE, -0.02, 0.001, "not supported"),
        (EQUAL, 0.0, 0.001, "supported"),
        (EQUAL, 0.0, 0.02, "inconclusive"),  # the interval holds zero, and that is no equality
        (EQUAL, 0.02, 0.001, "not supported"),
        (EQUAL, -0.02, 0.001, "not supported"),
    ],
)
def test_a_margin_decides(claim, difference, image_error, word):
    assert verdict(claim, difference, image_error) == word


def test_what_a_margin_lies_around():
    assert (NO_WORSE.direction, NO_WORSE.threshold) == ("greater", -0.005)
    assert (NO_BETTER.direction, NO_BETTER.threshold) == ("less", 0.002)
    assert (EQUAL.direction, EQUAL.threshold) == ("within", (-0.01, 0.01))
    ratio = load_claims()["decoupled-adds-few-flops"]
    assert (ratio.asks, ratio.threshold) == ("no greater", 1.25)
    assert ratio.model_copy(update={"asks": "equal"}).threshold == (0.75, 1.25)


@pytest.mark.parametrize("claim", [NO_WORSE, EQUAL, NO_BETTER], ids=lambda claim: claim.asks)
def test_the_error_at_the_margin_and_the_power_without_an_effect(claim):
    """Measured with a normal error of a quarter of the margin and bootstrapped with the same."""
    random, error, trials = np.random.default_rng(1), claim.margin / 4, 2000

    def supported(truth):
        measured = truth + error * random.standard_normal(trials)
        ends = [order_statistics(one + error * NORMAL) for one in measured]
        return np.mean([reading(claim, end) == "supported" for end in ends])

    edge = claim.margin if claim.asks == "no greater" else -claim.margin
    # 2.5% at one margin, with three standard errors of 2000 trials; 4 errors less 1.96 leave 2.04 on each side.
    assert 0.01 < supported(edge) < 0.025 + 0.012
    assert supported(0.0) > 0.94


BOTH = ("mmdet", "detectron2")


def agreement(differences, image_error=0.0005, audit=CLEAN):
    """What a study of one detector says of its two frameworks, with a difference for every seed."""
    (claim,) = [one for one in agreement_claims(load_study("coco_1x")) if one.id == "frameworks-agree-cascade_rcnn"]
    runs = []
    for seed, difference in enumerate(differences):
        for framework, ap, error in zip(BOTH, (0.4 + difference, 0.4), (image_error, 0.0), strict=True):
            run = make_run("cascade_rcnn", framework=framework, seed=seed)
            runs.append(flat(run, "(3,1-3) probabilities", ap, error))
    (found,) = study_verdicts([claim], runs, audit)
    return found


@pytest.mark.parametrize(
    ("differences", "image_error", "word"),
    [
        ((-0.0005, 0.0, 0.0005), 0.0005, "supported"),
        ((-0.0005, 0.0, 0.0005), 0.01, "inconclusive"),
        ((-0.02, 0.0, 0.02), 0.0005, "inconclusive"),
        ((0.0205, 0.021, 0.0215), 0.0005, "not supported"),
    ],
)
def test_two_frameworks_are_equal_within_a_point_or_not(differences, image_error, word):
    found = agreement(differences, image_error)
    assert (found.word, found.framework) == (word, "mmdet - detectron2")
    assert found.point == pytest.approx(np.mean(differences))
    assert AGREEMENT_MARGIN == found.claim.margin == 0.01


def test_one_training_in_each_framework_shows_no_equality():
    assert agreement([0.0]).word == "one seed"


def test_only_a_violation_makes_frameworks_not_comparable():
    """No source claims that they agree, so that no data and no protocol differs from it."""
    run = make_run("cascade_rcnn", framework="detectron2")
    other = make_run("cascade_rcnn", framework="mmdet")
    violation = Finding("violation", "frameworks", "rpn.nms_iou", run.id, other.id, reason="0.8 and 0.7")
    found = agreement((0.0, 0.0005, 0.001), audit=Audit("made up", 2, 97, (violation,)))
    assert (found.word, found.reading) == ("not comparable", "supported")
    assert found.reasons == (f"audit: rpn.nms_iou of {run.id}: 0.8 and 0.7",)


def test_frameworks_are_asked_about_every_detector():
    claims = agreement_claims(load_study("coco_1x"))
    assert [claim.id for claim in claims][:2] == [
        "frameworks-agree-faster_rcnn",
        "frameworks-agree-faster_rcnn,regression=class_specific",
    ]
    assert len({claim.id for claim in claims}) == len(claims) == 5
    assert formula(claims[2]) == (
        "AP[0.50:0.95] of Cascade R-CNN (3,1-3) probabilities in MMDetection - (3,1-3) probabilities in Detectron2"
    )
    assert agreement_claims(load_study("stock_mmdet")) == [], "one framework"


def test_formulas():
    written = {name: formula(claim) for name, claim in load_claims().items()}
    assert written["cascade-loses-low-iou"] == "AP[0.50:0.65] of Cascade R-CNN (3,3) - (2,2)"
    assert written["cascade-gains-ap"] == ("AP[0.50:0.95] of Cascade R-CNN (3,1-3) last RoIs - Faster R-CNN FPN (1,1)")
    assert written["cascade-gains-high-iou"].startswith("0.5 × AP80 of Cascade R-CNN (3,1-3) last RoIs + 0.5 × AP90 of")
    assert written["decoupled-adds-few-flops"] == (
        "FLOPs of Decoupled R-CNN (regression=class_specific) / Faster R-CNN FPN (regression=class_specific)"
    )
    assert "AP[0.50:0.95, small objects] of" in written["large-objects-gain-more"]


BALANCE = load_claims()["fscascade-evens-scores"]


@pytest.fixture(scope="module")
def same_detections(tmp_path_factory):
    """Cascade R-CNN and FSCascade with three seeds and the same detections."""
    folder = tmp_path_factory.mktemp("balance")
    about = {"variants": [{"variant": "cascade_rcnn"}, {"variant": "fscascade"}], "baseline": "Cascade R-CNN"}
    study = study_of(folder, **about, claims=[BALANCE.id], frameworks=["mmdet"], seeds=[0, 1, 2])
    truth = write_truth(folder, study)
    for planned in study.runs:
        write_run(folder, planned.run, truth, misses({}), np.random.default_rng(planned.run.seed))
    write_clean_audit(folder, study)
    return study, folder


def balance_with(same_detections, change):
    """The verdict where FSCascade's scores are changed, from the scores and a mark of the loose boxes."""
    study, folder = same_detections
    paths = [folder / "runs" / one.run.id / "detections.parquet" for one in study.runs if one.label == "FSCascade"]
    kept = {path: read_detections(path) for path in paths}
    resampled = ResampledStudy(study, folder, 399)
    lefts = resampled.truth.boxes.set_index(["image_id", "y"])["x"]
    try:
        for path, rows in kept.items():
            right = lefts.loc[list(zip(rows["image_id"], rows["y"], strict=True))].to_numpy()
            moved = rows["x"].to_numpy(float) - right
            loose = (40 - moved) / (40 + moved) <= 0.75
            scores = change(rows["score"].to_numpy(np.float64), loose).astype(np.float32)
            write_detections(path, rows.assign(score=scores).astype({"test_stage": str}))
        (found,) = study_verdicts([BALANCE], measure_study(resampled, [BALANCE]), CLEAN)
    finally:
        for path, rows in kept.items():
            write_detections(path, rows.astype({"test_stage": str}))
    return found


def test_lowering_all_scores_is_no_balance(same_detections):
    halved = balance_with(same_detections, lambda scores, loose: scores / 2)
    assert halved.point == pytest.approx(0.0, abs=1e-7)
    assert halved.word != "supported"
    lowered = balance_with(same_detections, lambda scores, loose: np.maximum(scores - 0.1, 0.0) / 2)
    assert lowered.point == pytest.approx(0.0, abs=0.1)
    assert lowered.word != "supported"


def test_scoring_loose_boxes_like_tight_ones_is_balance(same_detections):
    raised = balance_with(same_detections, lambda scores, loose: np.where(loose, 0.5 + scores / 2, scores))
    assert (raised.word, raised.point > 0.2) == ("supported", True)
    suppressed = balance_with(same_detections, lambda scores, loose: np.where(loose, scores / 2, scores))
    assert (suppressed.word != "supported", suppressed.point < -0.2) == (True, True)
