"""What a study will decide, from typical and from measured scatter, and what an inconclusive claim needs."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up_results import FEW_PARAMETERS, misses, study_of, write_clean_audit, write_run, write_truth

from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.power.design import DECIDED, Design, least_effect, power
from cascadebench.evidence.power.measured import (
    MOST_IMAGES,
    MOST_SEEDS,
    distances,
    images_needed,
    measured_design,
    seeds_needed,
    with_seeds,
)
from cascadebench.evidence.power.planned import json_of, planned_questions
from cascadebench.evidence.power.typical_scatter import typical_errors, typical_scatter
from cascadebench.evidence.quantities import Estimate
from cascadebench.evidence.verdict_files import write_verdicts
from cascadebench.uncertainty.resampled_study import ResampledStudy
from cascadebench.uncertainty.seed_scatter import SeedScatter

COCO = 118_287, 5_000
DESIGN = Design(seeds=3, seed_sd=0.3, image_se=0.4, questions=14, freedom=12)
ASKED = ["cascade-gains-ap", "fscascade-closes-gap", "fscascade-evens-scores", "regression-raises-proposal-recall"]


@pytest.mark.parametrize(
    ("claim", "points"),
    [
        ("cascade-gains-ap", (0.15 * math.sqrt(2), 0.2)),  # two detectors
        ("cascade-loses-low-iou", (1.2 * 0.15, 1.2 * 0.2 / math.sqrt(2))),  # two stages, some thresholds
        ("fscascade-narrows-gap", (1.2 * 0.15 * math.sqrt(2), 1.2 * 0.2)),  # a gap of gaps
        ("last-stage-loses-ap50", (1.6 * 0.15, 1.6 * 0.2 / math.sqrt(2))),
        ("large-objects-gain-more", (2 * 0.15 * math.sqrt(2), 2 * 0.2)),
    ],
)
def test_typical_errors_follow_the_quantity(claim, points):
    assert [100 * error for error in typical_errors(load_claims()[claim], *COCO)] == pytest.approx(points)


def test_an_ap_has_the_error_that_a_gap_does_not_have():
    claim = load_claims()["cascade-gains-ap"]
    alone = claim.model_copy(update={"quantity": claim.quantity[:1]})
    assert 100 * np.array(typical_errors(alone, *COCO)) == pytest.approx([0.15, 0.35])


def test_few_images_scatter_more_and_other_quantities_are_unknown():
    claim, known = load_claims()["cascade-gains-ap"], typical_scatter()
    assert typical_errors(claim, 400, 50)[1] == pytest.approx(10 * typical_errors(claim, *COCO)[1])
    found = [known.between_seeds(images).points for images in (1, 16_551, 118_287)]
    assert found == sorted(found, reverse=True)
    assert all(address.startswith("https://") for one in known.seed_sd for address in one.sources)
    for other in ("fscascade-evens-scores", "decoupled-adds-few-flops"):
        assert typical_errors(load_claims()[other], *COCO) is None


def test_the_needed_seeds_and_images_decide_and_fewer_do_not():
    away = (1.3, math.inf)
    seeds, images = seeds_needed(DESIGN, away), images_needed(DESIGN, away, 1000)
    assert power(with_seeds(DESIGN, seeds), *away).power >= DECIDED > power(with_seeds(DESIGN, seeds - 1), *away).power
    of_images = [replace(DESIGN, image_se=0.4 * math.sqrt(1000 / number)) for number in (images, 0.85 * images)]
    assert power(of_images[0], *away).power >= DECIDED > power(of_images[1], *away).power
    assert images % 10 ** (len(str(images)) - 2) == 0, "no more digits than it is known to"


def test_some_distances_need_more_than_is_looked_for():
    assert seeds_needed(DESIGN, (0.01, math.inf)) == images_needed(DESIGN, (0.01, math.inf), 1000) == math.inf
    assert power(with_seeds(DESIGN, MOST_SEEDS), 0.01).power < DECIDED
    assert power(replace(DESIGN, image_se=0.4 / math.sqrt(MOST_IMAGES)), 0.01).power < DECIDED
    few = replace(DESIGN, seed_sd=2.0)
    assert images_needed(few, (1.0, math.inf), 1000) == math.inf, "scatter between seeds does not go away with images"


def test_equality_must_be_decided_on_both_sides():
    margin = least_effect(DESIGN, between=True)
    assert margin > least_effect(DESIGN)
    assert power(DESIGN, margin, margin).power == pytest.approx(DECIDED, abs=1e-3)
    assert distances((-0.5, 0.5), 0.1) == pytest.approx((0.6, 0.4))
    assert distances((-0.5, 0.5), 0.7) == pytest.approx((0.2, math.inf))
    assert distances(0.2, -0.1) == pytest.approx((0.3, math.inf))


@pytest.mark.parametrize("scatter", [None, SeedScatter(0.09 / 0.02 + 1, 200)])
def test_the_scatter_of_a_design_is_that_of_the_trainings(scatter):
    """40 seeds of SD 0.3 on images with an error of 0.2, half of its variance of each training alone."""
    random, seeds, resamples = np.random.default_rng(0), 40, 1999
    together, alone = random.standard_normal((1, 1 + resamples)), random.standard_normal((seeds, 1 + resamples))
    drawn = math.sqrt(0.02) * (together + alone) + 0.3 * random.standard_normal((seeds, 1))
    draws = {seed: drawn[seed, 1:] for seed in range(seeds)}
    values = dict(enumerate(drawn[:, 0]))
    found = Estimate(0.0, drawn[0, 1:], "images and seeds", values, (), over_images=draws, scatter=scatter)
    design = measured_design(found, 5)
    assert (design.seed_sd, design.image_se, design.own_share) == pytest.approx((0.3, 0.2, 0.5), rel=0.15)
    assert (design.seeds, design.questions, design.freedom) == (40, 5, 200 if scatter else 0)
    assert measured_design(replace(found, samples=None), 5) is None
    assert measured_design(replace(found, by_seed={0: 0.1}), 5) is None
    without = measured_design(replace(found, over_images={}, scatter=None), 5)
    assert (without.image_se, without.seed_sd) == (0, pytest.approx(np.std(drawn[:, 0], ddof=1)))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A study with two seeds and its verdicts."""
    folder = tmp_path_factory.mktemp("measured")
    variants = [{"variant": name} for name in ("faster_rcnn", "cascade_rcnn", "fscascade")]
    about = {"variants": variants, "baseline": "Faster R-CNN FPN", "frameworks": ["mmdet"], "seeds": [0, 1]}
    study = study_of(folder, **about, claims=[*ASKED, "third-stage-helps"], hypotheses=[FEW_PARAMETERS])
    truth = write_truth(folder, study)
    for planned in study.runs:
        write_run(folder, planned.run, truth, misses({"(3,3)": 0.8 + 0.03 * planned.run.seed}))
    write_clean_audit(folder, study)
    write_verdicts(ResampledStudy(study, folder, 200))
    return study, folder


def test_a_plan_takes_measured_scatter_where_there_is_some(measured, tmp_path):
    study, folder = measured
    before, after = ({one.claim.id: one for one in planned_questions(study, place)} for place in (tmp_path, folder))
    assert before["cascade-gains-ap"].source.startswith("assumed until it is measured")
    assert after["cascade-gains-ap"].source == "measured over 2 seeds: verdicts.csv"
    assert before["fscascade-evens-scores"].design is None
    assert after["fscascade-evens-scores"].design.freedom == 0
    assert "not in the study" in after["third-stage-helps"].source
    assert after["few-parameters"].source == "counted: it has no error"
    assert {one.design.questions for one in before.values() if one.design} == {4}
    row = pd.read_csv(folder / "studies" / "made_up" / "verdicts.csv").set_index("claim").loc["cascade-gains-ap"]
    effects = after["cascade-gains-ap"].effects([1, 2, 5])
    assert effects[1] == math.inf
    # The family of the plan has the recall of proposals too, which these results lack.
    assert effects[2] == pytest.approx(row["least_effect"], rel=0.5)
    assert effects[2] > row["least_effect"] > effects[5]
    said = {one["claim"]: one for one in json_of(list(after.values()), [1, 2])}
    assert said["cascade-gains-ap"]["least_effect"] == {"1": None, "2": effects[2]}
    assert said["few-parameters"]["least_effect"] == {}


def test_the_table_says_what_an_inconclusive_claim_needs(measured):
    _, folder = measured
    table = pd.read_csv(folder / "studies" / "made_up" / "verdicts.csv").set_index("claim")
    inconclusive = table[(table["reading"] == "inconclusive") & table["seed_sd"].notna()]
    assert len(inconclusive)
    assert (inconclusive["seeds_needed"] > 2).all()
    assert (inconclusive["images_needed"] >= 60).all()
    decided = table[table["reading"] != "inconclusive"]
    assert decided[["seeds_needed", "images_needed"]].isna().all(axis=None)
    assert table.loc[["few-parameters", "third-stage-helps"], "least_effect"].isna().all()
