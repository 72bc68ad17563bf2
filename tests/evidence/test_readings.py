"""Claims under readings of a source that gives no equations: what is asked, and what a verdict stands on."""

from itertools import product

import pandas as pd
import pytest
import yaml
from made_up import make_run
from made_up_results import misses, study_of, write_clean_audit, write_run, write_truth
from refusals import refused

from cascadebench.core.configuration import read_yaml
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.evidence.claims import FOLDER, load_claims
from cascadebench.evidence.holm import samples_needed
from cascadebench.evidence.readings import asked_of, described, readings_left_out, under_readings
from cascadebench.evidence.verdict_files import enough_resamples, write_verdicts
from cascadebench.study_loading import load_study
from cascadebench.uncertainty.resampled_study import ResampledStudy

NARROWS = load_claims()["fscascade-narrows-gap"]
CASCADE = "cascade_rcnn: later_ground_truth=regressed"


def read_as(merge, embed="linear"):
    """What a claim on FSCascade beside Cascade R-CNN stands on where only these options are asked for."""
    rest = "later_ground_truth=regressed"
    return f"fscascade: merge={merge}, share_gradient=true, borrowed_loss=full, embed={embed}, {rest}; {CASCADE}"


MEAN = read_as("mean")


@pytest.fixture(scope="module")
def two_readings(tmp_path_factory):
    """FSCascade with merged means narrows the gap, with sums it does not; a third reading failed."""
    folder = tmp_path_factory.mktemp("readings")
    variants = [
        {"variant": "cascade_rcnn"},
        {"variant": "fscascade", "label": "mean"},
        {"variant": "fscascade", "label": "sum", "options": {"merge": "sum"}},
        {"variant": "fscascade", "label": "concat", "options": {"merge": "concat", "embed": "identity"}},
    ]
    study = study_of(folder, variants=variants, baseline="Cascade R-CNN", frameworks=["mmdet"], seeds=[0, 1, 2],
                     claims=["fscascade-narrows-gap", "cascade-loses-low-iou"])  # fmt: skip
    truth = write_truth(folder, study)
    found = {"Cascade R-CNN": 0.5, "mean": 0.95, "sum": 0.5}
    for planned in study.runs:
        if planned.label in found:
            write_run(folder, planned.run, truth, misses({"(3,3)": found[planned.label], "(2,2)": 0.95}))
    write_clean_audit(folder, study)
    write_verdicts(ResampledStudy(study, folder, 400))
    tables = folder / "studies" / "made_up"
    return study, [pd.read_csv(tables / f"{name}.csv") for name in ("verdicts", "claim_terms", "claim_samples")]


def test_a_claim_has_a_verdict_under_every_reading_of_the_study(two_readings):
    verdicts = two_readings[1][0]
    of_claim = verdicts[verdicts["claim"] == NARROWS.id].set_index("under")
    assert list(of_claim.index) == [MEAN, read_as("sum"), read_as("concat", "identity")]
    assert of_claim["value"].iloc[0] > 0.2
    assert abs(of_claim["value"].iloc[1]) < 0.2
    assert of_claim["verdict"].iloc[2] == "not run"
    assert "fscascade merge=concat embed=identity: not run, seed 0" in of_claim["reasons"].iloc[2]
    counted = of_claim["verdict"].value_counts(sort=False)
    told = ", ".join(f"{word} under {count}" for word, count in counted.items())
    assert of_claim["notes"].str.endswith(f"over 3 readings: {told}").all()
    assert of_claim["notes"].str.contains("9 of 12 readings are not in the study").all()


def test_a_claim_without_readings_is_asked_once_and_says_nothing_of_them(two_readings):
    verdicts = two_readings[1][0]
    (row,) = verdicts[verdicts["claim"] == "cascade-loses-low-iou"].to_dict("records")
    assert row["under"] == CASCADE
    assert "readings" not in row["notes"]


def test_every_reading_is_a_question_of_its_own_in_all_tables(two_readings):
    verdicts, terms, samples = two_readings[1]
    assert verdicts["question"].is_unique
    name = "fscascade-narrows-gap mmdet resnet50 merge=sum"
    assert "fscascade-narrows-gap mmdet resnet50" in set(verdicts["question"]), "the card's own reading adds nothing"
    assert name in set(verdicts["question"]) & set(terms["question"]) & set(samples.columns)
    of_sum = terms[(terms["question"] == name) & (terms["seed"] == 0)]
    (run,) = set(of_sum["run"][:2])
    assert run == two_readings[0].runs[6].run.id
    assert two_readings[0].runs[6].run.variant.options["merge"] == "sum"


def test_resamples_are_enough_for_every_reading(two_readings):
    assert enough_resamples(two_readings[0]) == 1999
    study = load_study("fscascade_readings")
    in_each_framework, between_them = 1 + 4 * 12, 1 + 12
    assert enough_resamples(study) == samples_needed(4 * (2 * in_each_framework + between_them), 0.05)


def test_what_a_study_asks_of_the_readings():
    cascade, fscascade = make_run("cascade_rcnn"), make_run("fscascade")
    without = make_run("fscascade", {"share_gradient": False})
    assert len(under_readings(NARROWS)) == 12
    assert [described(one) for one in asked_of(NARROWS, [cascade, fscascade])] == [MEAN]
    assert readings_left_out(NARROWS, [cascade, fscascade]) == ["11 of 12 readings are not in the study"]
    assert len(asked_of(NARROWS, [cascade, without, fscascade])) == 2
    assert [described(one) for one in asked_of(NARROWS, [cascade])] == [MEAN], "asked, and not run"
    alone = load_claims()["cfs-narrows-gap"]
    assert asked_of(alone, [cascade]) == [alone]
    assert readings_left_out(alone, [cascade]) == []


def test_a_reading_that_comes_to_the_same_is_asked_once():
    twice = NARROWS.model_copy(update={"readings": ({"merge": "mean"}, {}, {"embed": "linear"}, {"merge": "sum"})})
    assert [one.reading for one in under_readings(twice)] == [{}, {"merge": "sum"}]


def test_what_claims_on_other_methods_stand_on():
    table_10 = load_claims()["decoupled-regressors-beat-cascade"]
    decoupled = "stage_weights=equal, regression=class_agnostic, moved_by=predicted_class"
    rest = "regression_ground_truth=false, later_weights=common"
    assert described(table_10) == f"decoupled_rcnn: {decoupled}, {rest}; {CASCADE}"
    assert described(load_claims()["decoupled-adds-few-flops"]).endswith("; faster_rcnn: regression=class_specific")
    assert described(load_claims()["cascade-beats-iterative-bbox"]) == CASCADE


def test_the_study_of_readings_runs_them_all():
    options = find_variant("fscascade", "test").card.options
    readings = [name for name, option in options.items() if option.reading]
    assert readings == ["merge", "share_gradient", "borrowed_loss", "embed", "later_ground_truth"]
    everything = set(product(options["merge"].choices, options["embed"].choices, (True, False)))
    for name in ("fscascade_readings", "fscascade_readings-tiny"):
        study = load_study(name)
        given = [planned.run.variant.options for planned in study.runs if planned.run.variant.name == "fscascade"]
        assert {(one["merge"], one["embed"], one["share_gradient"]) for one in given} == everything
        assert len(study.runs) == 2 * len(study.file.seeds) * (1 + len(everything))
        of_mmdet = [planned.run for planned in study.runs if planned.run.framework == "mmdet"]
        assert len(asked_of(NARROWS, of_mmdet)) == len(under_readings(NARROWS)) == len(everything)


MISTAKES = [
    ({"merges": "sum"}, "readings.0: merges: not all of them are readings in the card of one term's variant"),
    ({"stages": 2}, "readings.0: stages: not all of them are readings in the card of one term's variant; there are: "),
    ({"merge": "product"}, "readings: options: fscascade.merge: 'product': allowed: mean, sum, concat"),
]


@pytest.mark.parametrize(("reading", "message"), MISTAKES, ids=[message[:30] for _, message in MISTAKES])
def test_a_mistake_in_a_reading_is_one_line(tmp_path, reading, message):
    content = read_yaml(FOLDER / "fscascade.yaml")
    claim = next(one for one in content["claims"] if one["id"] == NARROWS.id)
    claim["readings"] = [reading]
    (tmp_path / "fscascade.yaml").write_text(yaml.safe_dump(content))
    with refused("fscascade.yaml: claim fscascade-narrows-gap: ", message):
        load_claims(tmp_path)
