"""The audit: what it lets pass, and every kind of difference that it finds."""

from dataclasses import replace

import pytest
from readings import change, right_controls, runs

from cascadebench.controls.audit import audit, same_value
from cascadebench.controls.control_definition import ControlDefinition
from cascadebench.controls.definitions import CONTROLS
from cascadebench.controls.findings import Audit, grouped
from cascadebench.core.errors import InputError
from cascadebench.detectors.variant_catalog import find_variant


def found(outcome: Audit, kind: str = "violation") -> list[tuple[str, str, str, str]]:
    """Check, control, run and other run of the findings of a kind."""
    return [(one.check, one.control, one.run, one.other_run) for one in outcome.of_kind(kind)]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (0.7, 0.7 * (1 + 1e-7), True),
        (0.7, 0.7 * (1 + 1e-5), False),
        (2, 2.0, True),
        (0, 1e-12, False),
        (True, 1, False),
        (False, 0.0, False),
        ([1, [2.0, 3]], [1.0, [2, 3 + 1e-9]], True),
        ([[1]], [1], False),
        ([1, 2], [1, 2, 3], False),
        ((1, 2), [1, 2], True),
        ("l1", "l1", True),
        (None, None, True),
        (None, 0, False),
        ("1", 1, False),
        (float("nan"), float("nan"), False),
    ],
)
def test_values_are_compared_as_values(one, other, equal):
    assert same_value(one, other) is same_value(other, one) is equal


@pytest.mark.parametrize("name", ["tiny", "blood_cells", "coco_1x"])
def test_a_clean_study_passes(changed_study, name):
    study = changed_study(name, seeds=[0, 1, 2])
    controls = right_controls(study)
    for planned in study.runs:
        if planned.run.variant.options.get("regression") == "class_specific":
            change(controls, "weights.first_head_sha256", "a larger layer", planned.run.id)
    outcome = audit(study, controls)
    assert outcome.findings == ()
    assert outcome.passed
    expected = f"0 violations; 0 stated framework differences ({len(CONTROLS)} controls in"
    assert outcome.verdict.startswith(expected)


def test_a_run_without_readings_is_a_violation(study, controls):
    lost = study.run_ids[1]
    del controls[lost]
    outcome = audit(study, controls)
    assert found(outcome) == [("readings", "", lost, "")]
    assert "no controls.json" in outcome.findings[0].reason


def test_a_missing_an_unknown_and_a_doubled_control_are_violations(study, controls):
    run = study.run_ids[0]
    controls[run] = [entry for entry in controls[run] if entry["name"] != "rpn.nms_iou"]
    controls[run] += [controls[run][0], {"name": "rpn.colour", "value": "red", "read_from": "rpn.colour"}]
    outcome = audit(study, controls)
    assert found(outcome) == [
        ("readings", "rpn.nms_iou", run, ""),
        ("readings", "rpn.colour", run, ""),
        ("readings", "schedule.iterations", run, ""),
    ]


def test_a_value_that_is_not_the_protocol_s_is_one_violation(study, controls):
    run = runs(study, "Cascade R-CNN", "detectron2")[0]
    change(controls, "rpn.nms_iou", 0.5, run)
    outcome = audit(study, controls)
    assert found(outcome) == [("protocol", "rpn.nms_iou", run, "protocol")]
    finding = outcome.findings[0]
    assert (finding.value, finding.other, finding.read_from) == (0.5, 0.7, "model.rpn.nms_iou")
    assert not outcome.passed
    assert outcome.verdict.startswith("1 violation; ")


def test_a_baseline_that_is_wrong_does_not_accuse_the_variants(study, controls):
    wrong = runs(study, "Faster R-CNN FPN")
    change(controls, "rpn.nms_iou", 0.5, *wrong)
    assert found(audit(study, controls)) == [("protocol", "rpn.nms_iou", run, "protocol") for run in wrong]


def test_an_undeclared_change_by_a_variant_is_a_violation(study, controls):
    changed = runs(study, "Cascade R-CNN")
    change(controls, "input.ground_truth_boxes", 3, *changed)
    outcome = audit(study, controls)
    base = runs(study, "Faster R-CNN FPN")
    assert found(outcome) == [
        ("treatment", "input.ground_truth_boxes", run, other) for run, other in zip(changed, base, strict=True)
    ]
    assert "the card of cascade_rcnn does not declare it" in outcome.findings[0].reason


def test_what_the_protocol_expects_of_a_variant_must_be_declared_too(changed_study, monkeypatch):
    """Adapter and protocol agree that the cascade matches at other IoUs; its card must say so all the same."""

    def without_thresholds(*arguments):
        loaded = find_variant(*arguments)
        left = tuple(one for one in loaded.card.treatment if one != "heads.iou_threshold")
        return replace(loaded, card=loaded.card.model_copy(update={"treatment": left}))

    monkeypatch.setattr("cascadebench.study_loading.find_variant", without_thresholds)
    study = changed_study()
    checks = {(check, control) for check, control, _, _ in found(audit(study, right_controls(study)))}
    assert checks == {("treatment", "heads.iou_threshold")}


def test_a_difference_between_frameworks_is_a_violation_unless_a_reason_is_stated(study, controls):
    there = runs(study, framework="detectron2")
    change(controls, "backbone.frozen_parameters", 5, *there)
    change(controls, "model.operators", "compiled", *there)
    outcome = audit(study, controls)
    here = runs(study, framework="mmdet")
    pairs = list(zip(there, here, strict=True))
    assert found(outcome) == [("frameworks", "backbone.frozen_parameters", *pair) for pair in pairs]
    assert found(outcome, "framework difference") == [("frameworks", "model.operators", *pair) for pair in pairs]
    assert {one.reason for one in outcome.of_kind("framework difference")} == {CONTROLS["model.operators"].reason}
    assert outcome.verdict.startswith("2 violations; 1 stated framework difference (")
    assert [len(group) for group in grouped(outcome.of_kind("framework difference"))] == [2]


def test_a_stated_difference_holds_between_frameworks_only(study, controls):
    run = runs(study, "Cascade R-CNN", "mmdet")[0]
    change(controls, "model.operators", "compiled", run)
    assert ("treatment", "model.operators", run, runs(study, "Faster R-CNN FPN", "mmdet")[0]) in found(
        audit(study, controls)
    )


def test_what_is_only_recorded_is_never_compared(study, controls, monkeypatch):
    monkeypatch.setitem(CONTROLS, "model.memory", ControlDefinition("model.memory", "Memory.", kind="record"))
    for number, entries in enumerate(controls.values()):
        entries.append({"name": "model.memory", "value": number, "read_from": "x"})
    assert audit(study, controls).findings == ()


def test_seeds_of_a_variant_agree_but_for_what_is_per_seed(changed_study):
    study = changed_study(seeds=[0, 1])
    controls = right_controls(study)
    assert audit(study, controls).findings == ()  # order and weights of the seeds differ there
    late = runs(study, seed=1)
    change(controls, "backbone.frozen_parameters", 5, *late)
    outcome = audit(study, controls)
    assert found(outcome) == [
        ("seeds", "backbone.frozen_parameters", *pair) for pair in zip(late, runs(study), strict=True)
    ]


def test_another_order_of_images_within_a_seed_is_a_violation(changed_study):
    study = changed_study(seeds=[0, 1])
    controls = right_controls(study)
    run = runs(study, "Cascade R-CNN", "mmdet", seed=1)[0]
    change(controls, "training.order_sha256", "other", run)
    outcome = audit(study, controls)
    assert {(check, one) for check, _, one, _ in found(outcome)} == {
        ("treatment", run),
        ("frameworks", runs(study, "Cascade R-CNN", "detectron2", seed=1)[0]),
    }


def accepted(**entry) -> dict:
    """A key of a study's file with one accepted violation."""
    return {"accepted_violations": [{"reason": "It changes nothing here."} | entry]}


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        ({}, []),
        ({"variant": "Cascade R-CNN"}, []),
        ({"framework": "mmdet"}, ["detectron2"]),
        ({"variant": "Cascade R-CNN", "framework": "detectron2"}, ["mmdet"]),
    ],
)
def test_an_accepted_violation_passes_with_its_reason(changed_study, entry, left):
    study = changed_study(**accepted(control="rpn.nms_iou", **entry))
    controls = right_controls(study)
    change(controls, "rpn.nms_iou", 0.5, *runs(study, "Cascade R-CNN"))
    outcome = audit(study, controls)
    assert [study.run(one.run).framework for one in outcome.of_kind("violation")] == left
    assert {one.reason for one in outcome.of_kind("accepted")} == {"It changes nothing here."}
    assert len(outcome.of_kind("accepted")) == 2 - len(left)
    assert outcome.passed is (not left)


def test_the_difference_of_two_frameworks_is_accepted_under_either_name(changed_study):
    for framework in ("mmdet", "detectron2"):
        study = changed_study(**accepted(control="backbone.frozen_parameters", framework=framework))
        controls = right_controls(study)
        change(controls, "backbone.frozen_parameters", 5, *runs(study, framework="detectron2"))
        assert audit(study, controls).passed


@pytest.mark.parametrize("entry", [{}, {"variant": "Faster R-CNN FPN"}])
def test_an_acceptance_of_nothing_is_a_violation(changed_study, entry):
    study = changed_study(**accepted(control="rpn.nms_iou", **entry))
    controls = right_controls(study)
    if entry:
        change(controls, "rpn.nms_iou", 0.5, *runs(study, "Cascade R-CNN", "mmdet"))
    stale = [one for one in audit(study, controls).of_kind("violation") if one.check == "acceptance"]
    assert [one.control for one in stale] == ["rpn.nms_iou"]
    assert "accepted_violations[0] of the study matches no violation: remove it" in stale[0].reason


def test_a_stated_difference_needs_no_acceptance(changed_study):
    study = changed_study(**accepted(control="model.operators"))
    controls = right_controls(study)
    change(controls, "model.operators", "compiled", *runs(study, framework="detectron2"))
    outcome = audit(study, controls)
    assert found(outcome, "accepted") == []
    assert len(outcome.of_kind("framework difference")) == 2
    assert found(outcome) == [("acceptance", "model.operators", "", "")]


def test_an_acceptance_is_not_judged_before_every_run_is_inspected(changed_study):
    study = changed_study(**accepted(control="rpn.nms_iou"))
    controls = right_controls(study)
    del controls[study.run_ids[0]]
    assert found(audit(study, controls)) == [("readings", "", study.run_ids[0], "")]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"control": "rpn.nms"}, "accepted_violations[0].control: unknown control 'rpn.nms'; did you mean rpn.nms_iou"),
        ({"control": "rpn.nms_iou", "variant": "Cascade"}, "accepted_violations[0].variant: 'Cascade' is not in"),
        ({"control": "rpn.nms_iou", "framework": "jax"}, "accepted_violations[0].framework: 'jax' is not in"),
        ({"control": "rpn.nms_iou", "reason": ""}, "accepted_violations.0.reason"),
    ],
)
def test_an_acceptance_of_what_does_not_exist_is_refused(changed_study, entry, message):
    with pytest.raises(InputError) as caught:
        changed_study(**accepted(**entry))
    assert message in str(caught.value)


def test_a_card_that_declares_an_unknown_control_is_refused(changed_study, monkeypatch):

    def misspelt(*arguments):
        loaded = find_variant(*arguments)
        return replace(loaded, card=loaded.card.model_copy(update={"treatment": ("heads.stage",)}))

    monkeypatch.setattr("cascadebench.study_loading.find_variant", misspelt)
    with pytest.raises(InputError, match=r"faster_rcnn/card.yaml: treatment: unknown control 'heads.stage'; did"):
        changed_study()


@pytest.mark.parametrize("framework", ["mmdet", "detectron2"])
def test_own_rules_are_listed_and_differ_from_the_baseline_only_by_treatment(changed_study, framework):
    study = changed_study(f"stock_{framework}", accepted_violations=[])
    controls = right_controls(study)
    change(controls, "heads.regression", "class_agnostic", *study.run_ids)  # leaves the baseline's to the variant
    change(controls, "rpn.loss_normalizer", "sampled anchors", *study.run_ids)
    cascade = runs(study, "Cascade R-CNN")
    change(controls, "rpn.border", 0, *cascade)
    outcome = audit(study, controls)
    listed = {(control, run) for _, control, run, _ in found(outcome, "own rule")}
    assert listed >= {("rpn.loss_normalizer", run) for run in study.run_ids} | {("rpn.border", cascade[0])}
    assert [(check, control) for check, control, _, _ in found(outcome)] == [("treatment", "rpn.border")]


@pytest.mark.parametrize("divided", [{"gpus": 4}, {"accumulation": 2}])
def test_batch_norm_that_would_learn_from_a_part_of_a_batch_is_a_violation(changed_study, divided):
    study = changed_study("decoupled_table_11")
    controls = right_controls(study)
    assert not [one for one in audit(study, controls).findings if one.check == "division"]
    study = changed_study("decoupled_table_11", execution=divided)
    double_heads = [one.run.id for one in study.runs if one.run.variant.options["double_head"]]
    for _ in range(2):
        outcome = [one for one in audit(study, controls).of_kind("violation") if one.check == "division"]
        assert [one.run for one in outcome] == double_heads
        assert {one.control for one in outcome} == {"heads.regression_branch"}
        # It cannot be accepted: the training would refuse it.
        accepted = {"control": "heads.regression_branch", "reason": "a test"}
        study = changed_study("decoupled_table_11", execution=divided, accepted_violations=[accepted])


def test_the_parts_of_a_step_add_up_to_its_batch(changed_study):
    study = changed_study("coco_1x")
    controls = right_controls(study)
    assert not [one for one in audit(study, controls).findings if one.check == "division"]
    execution = study.file.execution.model_copy(update={"gpus": 3})
    study = replace(study, file=study.file.model_copy(update={"execution": execution}))
    outcome = [one for one in audit(study, controls).of_kind("violation") if one.check == "division"]
    assert {one.control for one in outcome} == {"training.batch_size"}
    assert {one.other for one in outcome} == {"3 process(es) x 1 pass(es) x 5 image(s)"}
