"""Hypotheses of a study's own: names checked against its runs, and judged with the claims."""

import pandas as pd
import pytest
from made_up_results import misses, study_of, write_clean_audit, write_run, write_truth
from refusals import refused
from small_studies import changed_study

from cascadebench.cli.schemas import schema
from cascadebench.detectors.new_variant import new_variant
from cascadebench.evidence.claims import as_written
from cascadebench.evidence.hypotheses import TITLE, study_claims
from cascadebench.evidence.verdict_files import write_verdicts
from cascadebench.study_loading import load_study
from cascadebench.uncertainty.resampled_study import ResampledStudy

GAINS = {
    "id": "cascade-gains", "words": "The cascade is better.", "asks": "greater",
    "quantity": [{"label": "Cascade R-CNN"}, {"variant": "faster_rcnn", "coefficient": -1}],
}  # fmt: skip
VARIANTS = [{"variant": "faster_rcnn"}, {"variant": "cascade_rcnn"}]


def one_term(**about):
    return GAINS | {"quantity": [about]}


def test_a_run_is_named_by_its_variant_or_by_its_label(tmp_path):
    variants = [*VARIANTS, {"variant": "cascade_rcnn", "options": {"stages": 2}, "label": "Two"}]
    terms = [{"label": "Two"}, {"variant": "cascade_rcnn", "options": {"stages": 2}}, {"variant": "cascade_rcnn"}]
    study = load_study(changed_study(tmp_path, variants=variants, hypotheses=[GAINS | {"quantity": terms}]))
    asked = {one.id: one for one in study_claims(study)}["cascade-gains"]
    by_label = {planned.label: planned.run.variant for planned in study.runs}
    read = [[label for label, variant in by_label.items() if term.is_of(variant)] for term in asked.quantity]
    assert read == [["Two"], ["Two"], ["Cascade R-CNN"]]
    assert asked.quantity[0].options == {"stages": 2}, "as a table of terms and a missing run name it"
    assert (asked.title, asked.claimed_on) == (TITLE, None)
    ids, frameworks = [one.id for one in study_claims(study)], len(variants)
    assert ids[:-frameworks] == [*study.file.claims, "cascade-gains"], "whether frameworks agree comes last"


def test_a_variant_of_one_s_own_is_read(tmp_path):
    new_variant("mine", "cascade_rcnn", tmp_path / "variants")
    variants = [*VARIANTS, {"variant": "mine"}]
    terms = [{"variant": "mine"}, {"label": "Cascade R-CNN", "coefficient": -1}]
    changes = {"variants": variants, "variant_folders": ["variants"], "hypotheses": [GAINS | {"quantity": terms}]}
    study = load_study(changed_study(tmp_path, **changes))
    mine, other = {one.id: one for one in study_claims(study)}["cascade-gains"].quantity
    of = {planned.run.variant.name: planned.run.variant for planned in study.runs}
    assert [mine.is_of(of["mine"]), mine.is_of(of["cascade_rcnn"])] == [True, False]
    assert [other.is_of(of["mine"]), other.is_of(of["cascade_rcnn"])] == [False, True]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (GAINS | {"colour": "red"}, "hypotheses[0]: colour: unknown key; allowed: id, words"),
        (GAINS | {"asks": "more"}, "hypotheses[0]: asks: input should be 'greater', 'less', 'no less', 'no greater'"),
        (GAINS | {"than": 0.01}, "hypotheses[0]: (whole file): reason: missing"),
        (GAINS | {"id": "a b"}, "id: letters, digits and . _ - are allowed"),
        (GAINS | {"id": "cascade-gains-ap"}, "hypotheses[0].id: 'cascade-gains-ap' is the id of a published claim"),
        (GAINS | {"readings": [{}]}, "readings: only claims have them"),
        (GAINS | {"claimed_on": {"dataset": "coco2017", "schedule": "x"}}, "claimed_on: a hypothesis is about the"),
        (one_term(label="Cascade"), "hypotheses[0].quantity.0.label: 'Cascade' is not in the study; there are: Faster"),
        (one_term(variant="fscascade"), "quantity.0.variant: 'fscascade' is not in the study; there are: faster_rcnn"),
        (one_term(variant="cascade_rcnn", options={"stage": 2}), "quantity.0.options"),
        (one_term(variant="cascade_rcnn", options={"stages": 2}), "does not run cascade_rcnn with these options; its"),
        (one_term(), "quantity.0: variant: either a variant, with its options, or a label"),
        (one_term(label="Cascade R-CNN", variant="cascade_rcnn"), "either a variant, with its options, or a label"),
        (one_term(label="Cascade R-CNN", options={"stages": 3}), "options: a label stands for a variant with its opt"),
        (one_term(label="Cascade R-CNN", published="a.b"), "published: only claims have printed values"),
        (one_term(label="Faster R-CNN FPN", at="stage 2"), "quantity.0.at: 'stage 2': faster_rcnn has no (2,1); it"),
        (one_term(label="Faster R-CNN FPN", at="stage T-1"), "quantity.0.at: 'stage T-1': faster_rcnn has no"),
        (one_term(label="Cascade R-CNN", at="stage T-3", metric="proposal_AR100"), "cascade_rcnn has no stage 0; it"),
    ],
)  # fmt: skip
def test_a_hypothesis_that_is_wrong_is_refused_in_one_line(tmp_path, entry, message):
    with refused(message, "changed.yaml"):
        load_study(changed_study(tmp_path, variants=VARIANTS, proposal_swaps=[], claims=[], hypotheses=[entry]))


def test_ids_are_given_once_and_imported_detections_alone_ask_nothing(tmp_path):
    with refused("hypotheses[1].id: 'cascade-gains' is given twice", "changed.yaml"):
        load_study(changed_study(tmp_path, hypotheses=[GAINS, GAINS]))
    alone = {"variants": [], "imported": ["x"], "hypotheses": [GAINS], "claims": [], "proposal_swaps": []}
    alone |= {"protocol": "", "frameworks": [], "backbones": [], "seeds": [], "baseline": ""}
    with refused("hypotheses: means nothing without variants", "changed.yaml"):
        load_study(changed_study(tmp_path, **alone))


def test_another_word_of_a_hypothesis_asks_for_new_verdicts_and_for_no_training(tmp_path):
    studies = [load_study(changed_study(tmp_path, hypotheses=[GAINS | more])) for more in ({}, {"asks": "less"})]
    assert studies[0].run_ids == studies[1].run_ids == load_study("tiny").run_ids
    assert as_written(study_claims(studies[0]), "test") != as_written(study_claims(studies[1]), "test")


def test_the_schema_of_a_study_knows_the_grammar():
    known = schema("study")
    assert known["title"] == "StudyFile"
    assert known["properties"]["hypotheses"]["items"] == {"$ref": "#/$defs/Hypothesis"}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A claim of COCO and two hypotheses, on detections of a cascade that misses by less; the verdicts by claim."""
    folder = tmp_path_factory.mktemp("judged")
    few = {"metric": "trainable_parameters"}
    parameters = [{"label": "Cascade R-CNN"} | few], [{"label": "Faster R-CNN FPN"} | few]
    cheap = GAINS | {"id": "cheap", "quantity": parameters[0], "divided_by": parameters[1], "asks": "less"}
    cheap |= {"than": 2.0, "reason": "Twice is much."}
    about = {"variants": VARIANTS, "baseline": "Faster R-CNN FPN", "claims": ["cascade-gains-ap"]}
    about |= {"dataset": "shapes", "backbones": ["resnet18_narrow"], "protocol": "tiny", "frameworks": ["mmdet"]}
    study = study_of(folder, hypotheses=[GAINS, cheap], seeds=[0, 1, 2, 3], **about)
    truth = write_truth(folder, study)
    for planned in study.runs:
        write_run(folder, planned.run, truth, misses({"(1,1)": 0.3}))
    write_clean_audit(folder, study)
    write_verdicts(ResampledStudy(study, folder, 999))
    tables = [pd.read_csv(folder / "studies" / "made_up" / f"{name}.csv") for name in ("verdicts", "claim_terms")]
    return [table.set_index("claim") for table in tables]


def test_a_hypothesis_is_decided_on_the_study_s_own_data(judged):
    verdicts, _ = judged
    assert list(verdicts["verdict"]) == ["not comparable", "supported", "supported"]
    assert list(verdicts["source"]) == ["Cascade R-CNN", TITLE, TITLE]
    assert verdicts.loc["cascade-gains", "value"] > 0.05
    assert verdicts.loc["cheap", "value"] == pytest.approx(69 / 41)
    assert verdicts[["reasons", "notes", "place", "published"]].loc["cheap"].isna().all()


def test_hypotheses_and_claims_are_one_family(judged):
    levels = judged[0]["holm_level"]
    assert (levels.count(), levels.min()) == (2, 0.025), "two have samples, whichever list they stand in"


def test_the_terms_of_a_hypothesis_are_in_the_table(judged):
    terms = judged[1].loc["cascade-gains"]
    assert len(terms) == 2 * 4
    assert terms["run"].str.startswith(("cascade_rcnn-", "faster_rcnn-")).all()
    assert terms["value"].notna().all()
