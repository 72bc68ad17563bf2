"""Whether a question was registered before the trainings that it is about."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pandas as pd
import pytest
from small_studies import changed_study

from cascadebench.core.files import now
from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.registration.content import registered_question, rule_of, study_content
from cascadebench.evidence.registration.standing import EXPLORATORY, REGISTERED, find_trainings, registration_state
from cascadebench.evidence.verdict_files import write_verdicts
from cascadebench.results.layout import ResultsFolder
from cascadebench.results.registered import register
from cascadebench.study_loading import load_study
from cascadebench.uncertainty.resampled_study import ResampledStudy

PROJECT = {"version": "1", "commit": None, "changed": None}
HYPOTHESIS = {
    "id": "gains", "words": "It is better.", "asks": "greater",
    "quantity": [{"label": "Cascade R-CNN"}, {"label": "Faster R-CNN FPN", "coefficient": -1}],
}  # fmt: skip
OTHER = HYPOTHESIS | {"id": "gains-at-90", "quantity": [{"label": "Cascade R-CNN", "iou": [0.9, 0.9]}]}


def study_with(folder, *hypotheses, **changes):
    """The embedded study's first two detectors in one framework, with hypotheses."""
    folder.mkdir(exist_ok=True)
    about = {"variants": [{"variant": "faster_rcnn"}, {"variant": "cascade_rcnn"}], "frameworks": ["mmdet"]}
    about |= {"claims": [], "proposal_swaps": [], "hypotheses": list(hypotheses)}
    return load_study(changed_study(folder, "mine", **about | changes))


def later(time, seconds):
    return (datetime.fromisoformat(time) + timedelta(seconds=seconds)).isoformat()


class Asked:
    """A folder of results in which studies are registered and trained."""

    def __init__(self, folder):
        self.folder, self.results, self.registrations = folder, ResultsFolder(folder / "results"), []

    def register(self, study):
        self.study = study
        entry = register(self.results.study("mine").registered, study_content(study), PROJECT)
        self.registrations += [entry] if entry else []
        return entry

    def train(self, number, *known, began=None):
        """Note the end of a training that found these registrations."""
        path = self.results.run(self.study.run_ids[number]).trained
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"began": began or now(), "registered": [one.sha256 for one in known]}))

    def states(self, study=None, seed=0):
        """State by question's id of what a study asks now."""
        study = study or self.study
        trainings = find_trainings(self.results, study.run_ids)
        return {
            one["question"].split()[0]: registration_state(
                one, rule_of(seed), self.registrations, [own for own in trainings if own.run in one["runs"]]
            )
            for one in study_content(study)["questions"]
        }


@pytest.fixture
def asked(tmp_path):
    return Asked(tmp_path)


def test_registered_trained_decided(asked):
    first = asked.register(study_with(asked.folder, HYPOTHESIS))
    assert asked.states()["gains"].word == REGISTERED, "nothing is trained yet"
    asked.train(0, first)
    asked.train(1, first)
    assert asked.states()["gains"] == replace(asked.states()["gains"], word=REGISTERED, why="registration 1")


def test_one_that_is_added_after_a_training_is_exploratory_and_leaves_the_others(asked):
    first = asked.register(study_with(asked.folder, HYPOTHESIS))
    asked.train(0, first)
    asked.train(1, first)
    asked.register(study_with(asked.folder, HYPOTHESIS, OTHER))
    states = asked.states()
    assert states["gains"].word == REGISTERED
    assert (states["gains-at-90"].word, states["gains-at-90"].why) == (
        EXPLORATORY, "the question is not in registration 1"
    )  # fmt: skip


def test_one_that_is_added_while_others_train_is_registered_for_what_began_later(asked):
    first = asked.register(study_with(asked.folder, HYPOTHESIS))
    asked.train(0, first)  # the baseline, of which the second reads nothing
    second = asked.register(study_with(asked.folder, HYPOTHESIS, OTHER))
    asked.train(1, first, second)
    assert {name: (state.word, state.why) for name, state in asked.states().items()} == {
        "gains": (REGISTERED, "registrations 1, 2"),
        "gains-at-90": (REGISTERED, "registration 2"),
    }


@pytest.mark.parametrize("change", [{"asks": "less"}, {"words": "Another."}, {"than": 0.01, "reason": "x"}])
def test_a_changed_hypothesis_is_another_question(asked, change):
    first = asked.register(study_with(asked.folder, HYPOTHESIS))
    asked.train(0, first)
    asked.train(1, first)
    changed = study_with(asked.folder, HYPOTHESIS | change)
    assert asked.states(changed)["gains"].why == "the question is another in registration 1"
    asked.register(changed)
    assert asked.states()["gains"].word == EXPLORATORY, "registering it now mends nothing"
    assert asked.states(study_with(asked.folder, HYPOTHESIS))["gains"].word == REGISTERED


def test_of_two_registrations_before_a_training_the_last_is_in_force(asked):
    """Else one could register both directions and choose."""
    first = asked.register(study_with(asked.folder, HYPOTHESIS))
    second = asked.register(study_with(asked.folder, HYPOTHESIS | {"asks": "less"}))
    asked.train(0, first, second)
    asked.train(1, first, second)
    assert asked.states()["gains"].word == REGISTERED
    assert asked.states(study_with(asked.folder, HYPOTHESIS))["gains"].word == EXPLORATORY


def test_more_seeds_after_a_look_are_another_question(asked):
    first = asked.register(study_with(asked.folder, HYPOTHESIS))
    asked.train(0, first)
    asked.train(1, first)
    more = study_with(asked.folder, HYPOTHESIS, seeds=[0, 1])
    asked.register(more)
    assert asked.states()["gains"].word == EXPLORATORY


def test_words_that_explain_and_other_variants_are_no_other_question(asked):
    first = asked.register(study_with(asked.folder, HYPOTHESIS))
    asked.train(0, first)
    asked.train(1, first)
    variants = [{"variant": name} for name in ("faster_rcnn", "cascade_rcnn", "fscascade")]
    assert asked.states(study_with(asked.folder, HYPOTHESIS | {"reason": "So."}, variants=variants))["gains"].word == (
        REGISTERED
    )


def test_another_rule_of_judgement_is_exploratory(asked):
    first = asked.register(study_with(asked.folder, HYPOTHESIS))
    asked.train(0, first)
    asked.train(1, first)
    state = asked.states(seed=7)["gains"]
    assert (state.word, state.why) == (
        EXPLORATORY,
        "the rule of judgement is another (bootstrap_seed) in registration 1",
    )


def test_a_training_before_the_registration_is_recognised_by_its_digest_and_by_its_time(asked):
    asked.study = study_with(asked.folder, HYPOTHESIS)
    run = asked.study.run_ids[0]
    asked.train(0)  # before there was any registration
    asked.train(1)
    first = asked.register(asked.study)
    asked.train(0, began=later(first.time, -60))
    assert asked.states()["gains"].why == f"{run}: its training began before registration 1"
    asked.train(0, first, began=later(first.time, -60))  # a digest that somebody wrote there afterwards
    assert asked.states()["gains"].why == f"{run}: its training began before registration 1"
    asked.train(0, began=later(first.time, 60))  # a time that somebody changed, or results of another folder
    said = "its training found no registration of this study when it began"
    assert asked.states()["gains"].why == f"{run}: {said}"
    asked.train(0, first, began=later(first.time, 60))
    assert asked.states()["gains"].why.startswith(asked.study.run_ids[1]), "every training counts"


@pytest.mark.parametrize("manifest", [{}, {"began": None, "registered": []}, {"began": "noon", "registered": None}])
def test_a_training_without_a_record_of_its_beginning_is_exploratory(asked, manifest):
    asked.register(study_with(asked.folder, HYPOTHESIS))
    path = asked.results.run(asked.study.run_ids[0]).trained
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest))
    state = asked.states()["gains"]
    assert (state.word, state.why) == (
        EXPLORATORY,
        f"{asked.study.run_ids[0]}: when its training began is not recorded",
    )


def test_without_any_registration_everything_is_exploratory(asked):
    asked.study = study_with(asked.folder, HYPOTHESIS)
    assert asked.states()["gains"].why == "the study was never registered"


def test_a_question_holds_what_it_is_about_and_no_default():
    runs = {planned.run.id: planned.run for planned in load_study("tiny").runs}
    claim = load_claims()["last-stage-gains-ap90"]
    one = registered_question(claim, "mmdet", "resnet18_narrow", runs)
    assert [name.split("-")[:2] for name in one["runs"]] == [["cascade_rcnn", "mmdet"]]
    assert one["asked"]["asks"] == "greater"
    assert {"than", "margin", "divided_by"} & set(one["asked"]) == set(), "a default is not written"
    assert not {"place", "source", "readings"} & set(one["asked"])
    more = claim.model_copy(update={"than": 0.01})
    assert registered_question(more, "mmdet", "resnet18_narrow", runs)["sha256"] != one["sha256"]


def test_the_table_of_verdicts_says_it(asked):
    study = study_with(asked.folder, HYPOTHESIS)
    first = asked.register(study)
    asked.train(0, first)
    asked.register(study_with(asked.folder, HYPOTHESIS, OTHER))
    write_verdicts(ResampledStudy(asked.study, asked.results.path))
    table = pd.read_csv(asked.results.study("mine").verdicts)
    assert list(table["registered"]) == [REGISTERED, REGISTERED]
    assert list(table["registered_why"]) == ["registration 1", "registration 2"]
