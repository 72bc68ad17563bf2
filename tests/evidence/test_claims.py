"""Claims: their form, what papers print against them, the studies that measure them, and one line for every mistake."""

import pytest
import yaml
from refusals import refused
from small_studies import changed_study

from cascadebench.core.configuration import CONFIG, PROJECT, read_yaml
from cascadebench.evidence.claims import FOLDER, find_claims, load_claims
from cascadebench.evidence.comparability import reasons_not_comparable
from cascadebench.evidence.metrics import EXACT, PUBLISHED_METRICS
from cascadebench.evidence.published import complete_options
from cascadebench.study_loading import load_study

PRINTED = {name: claim for name, claim in load_claims().items() if claim.published_value() is not None}


def test_what_would_settle_fscascade_comes_first():
    names = list(load_claims())
    assert names[:2] == ["cascade-loses-low-iou", "fscascade-narrows-gap"]
    assert len(names) >= 20
    assert {claim.title for claim in load_claims().values()} == {"FSCascade", "Cascade R-CNN", "Decoupled R-CNN"}


@pytest.mark.parametrize("name", PRINTED)
def test_the_printed_values_fulfil_the_claim(name):
    """A sign, a direction or a threshold that is wrong would make a paper contradict itself."""
    claim = PRINTED[name]
    assert claim.holds(claim.published_value()), claim.published_value()


def test_most_claims_have_printed_values():
    assert len(PRINTED) >= 30


def test_printed_quantities():
    claims = load_claims()
    assert claims["cascade-gains-ap"].published_value() == 0.04
    assert claims["cascade-gains-high-iou"].published_value() == 0.074
    assert claims["large-objects-gain-more"].published_value() == 0.058
    assert claims["decoupled-adds-few-flops"].published_value() == pytest.approx(257.52 / 215.82)
    assert claims["fscascade-narrows-gap"].published_value() is None


def test_the_gap_of_gaps():
    terms = load_claims()["fscascade-narrows-gap"].quantity
    assert [(term.variant, term.at, term.coefficient) for term in terms] == [
        ("fscascade", "stage T", 1),
        ("fscascade", "stage T-1", -1),
        ("cascade_rcnn", "stage T", -1),
        ("cascade_rcnn", "stage T-1", 1),
    ]
    assert all(term.ends == (0.5, 0.65) for term in terms)


def test_every_difference_cancels_a_common_shift():
    """In a sum of differences the coefficients of AP add up to zero: an easier data set changes nothing by itself."""
    for claim in load_claims().values():
        if not claim.divided_by:
            assert sum(term.coefficient for term in claim.quantity) == 0, claim.id


def first(content):
    return content["claims"][0]


def term(content):
    return content["claims"][0]["quantity"][0]


MISTAKES = [
    (lambda c: first(c).update(threshold=[0, 1]), "threshold: two values belong to within"),
    (lambda c: first(c).update(direction="within", threshold=[1, 0], reason="x"), "threshold: the lower value"),
    (lambda c: first(c).update(direction="above"), "claims.0.direction: input should be 'greater'"),
    (lambda c: first(c).update(threshold=0.1, reason=""), "reason: missing; a threshold other than 0"),
    (lambda c: first(c).update(seeds=1), "claims.0.seeds"),
    (lambda c: c["claims"].append(first(c)), "the id 'cascade-gains-ap' is given twice"),
    (lambda c: c["claimed_on"].update(dataset="mine"), "claimed_on.dataset: 'mine'; allowed: coco2017, voc0712"),
    (lambda c: c["claimed_on"].update(schedule="9x"), "claimed_on.schedule: unknown schedule '9x'"),
    (lambda c: term(c).update(variant="yolo"), "claim cascade-gains-ap: term 0: variant: unknown variant 'yolo'"),
    (lambda c: term(c).update(options={"stages": 9}), "options: cascade_rcnn.stages: 9: allowed: 1.0 to 4.0"),
    (lambda c: term(c).update(at="stage X"), "'stage X' is no test stage"),
    (lambda c: term(c).update(iou=[0.5, 0.62]), "iou: two of 0.5, 0.55"),
    (lambda c: term(c).update(iou=[0.7, 0.6]), "iou: two of 0.5, 0.55"),
    (lambda c: term(c).update(metric="flops"), "at: flops is of the whole model"),
    (lambda c: term(c).update(metric="AR100", iou=[0.5, 0.6]), "iou: AR100 has no range"),
    (lambda c: term(c).update(metric="AR100", area="small"), "area: only AP has areas"),
    (lambda c: term(c).update(metric="proposal_AR100"), "at: proposals need a stage"),
    (lambda c: term(c).update(metric="mAP"), "metric: input should be 'AP'"),
    (lambda c: term(c).update(published="table1"), "published: 'table1' is no published value"),
    (lambda c: term(c).update(published="cascade_rcnn.table1.cascade.AP50"), "AP50 is AP50, the term is AP"),
    (lambda c: term(c).update(published="cascade_rcnn.table1.baseline.AP"), "is of faster_rcnn, the term of cascade"),
    (lambda c: term(c).update(options={"stages": 2}), "has another value of the option stages"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_is_one_line(tmp_path, change, message):
    content = read_yaml(FOLDER / "cascade_rcnn.yaml")
    change(content)
    (tmp_path / "cascade_rcnn.yaml").write_text(yaml.safe_dump(content))
    with refused(message, "cascade_rcnn.yaml"):
        load_claims(tmp_path)


def test_claims_are_found_in_the_order_that_they_are_asked_for():
    names = ["third-stage-helps", "cascade-gains-ap"]
    assert [claim.id for claim in find_claims(names, "test")] == names


def test_a_study_names_claims(tmp_path):
    study = load_study(changed_study(tmp_path, claims=["cascade-gains-ap"]))
    assert study.file.claims == ("cascade-gains-ap",)
    assert study.run_ids == load_study("tiny").run_ids, "claims change no run"


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        (["cascade-gain-ap"], "claims: unknown claim 'cascade-gain-ap'; did you mean cascade-gains-ap"),
        (["cascade-gains-ap"] * 2, "claims: the claim 'cascade-gains-ap' is given twice"),
    ],
)
def test_a_claim_that_is_none_is_refused(tmp_path, claims, message):
    with refused(message, "changed.yaml"):
        load_study(changed_study(tmp_path, claims=claims))


ON_OTHER_DATA = {"tiny": "shapes", "blood_cells": "blood_cells"}
"""Studies that measure claims where no source made them."""
STUDIES = [path.stem for path in sorted((CONFIG / "studies").glob("*.yaml")) if read_yaml(path).get("claims")]


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_the_runs_of_its_claims_on_their_data_and_schedule(name):
    study = load_study(name)
    runs = [planned.run for planned in study.runs]
    for claim in (load_claims()[name] for name in study.file.claims):
        of_claim = []
        for term in claim.terms:
            options = complete_options(term.variant, term.options, claim.id)
            found = [run for run in runs if (run.variant.name, run.variant.options) == (term.variant, options)]
            assert found, f"{claim.id}: {term.variant} {term.options} is not in the study"
            of_claim += found
        *reasons, audit = reasons_not_comparable(claim, of_claim, None)
        assert audit == "the controls were not audited"
        if name in ON_OTHER_DATA:
            assert reasons[0] == f"data: {ON_OTHER_DATA[name]} here, coco2017 in the source", claim.id
        else:
            assert reasons == [], claim.id


@pytest.mark.parametrize("name", sorted(set(STUDIES) - set(ON_OTHER_DATA)))
def test_a_study_has_three_seeds_if_its_claims_are_sampled(name):
    """Else all its runs may succeed, and the claim says no more than one seed."""
    file = load_study(name).file
    sampled = [claim for claim in file.claims if load_claims()[claim].quantity[0].metric not in EXACT]
    assert len(file.seeds) >= 3 or not sampled


def test_every_claim_is_tested_by_a_study():
    named = {claim for name in STUDIES for claim in read_yaml(CONFIG / "studies" / f"{name}.yaml")["claims"]}
    assert named == set(load_claims())


PAGE = (PROJECT / "docs" / "evidence.md").read_text(encoding="utf-8")


def test_every_claim_has_its_row_in_order():
    rows = [f"| `{claim.id}` | {claim.words} | {claim.place} |" for claim in load_claims().values()]
    assert [
        line for line in PAGE.splitlines() if line.startswith("| `") and line.split("`")[1] in load_claims()
    ] == rows


def test_every_kind_of_metric_is_named():
    plain = [name for name in PUBLISHED_METRICS if not name.startswith(("AP", "mask_", "proposal_AR"))]
    assert [name for name in [*plain, "proposal_AR100", "proposal_AR1000", "mask_"] if f"`{name}`" not in PAGE] == []
