"""The audit of witnesses: which differences are found, which a control explains, and what a finding says."""

import pytest
from readings import change, runs

from cascadebench.controls.audit import audit
from cascadebench.controls.witness import STEPS, close

QUANTITIES = [
    ("updates", "forward passes", 3, 3),
    ("hooks", "hooks of the loop", ["SessionHook"], None),
    ("initial numbers", "rpn", [18, 1.5, -2.0], None),
    ("proposal network", "loss rpn_classification", 0.7, None),
    ("proposal network", "gradient of rpn.conv.weight", [9, 4.0, 1.0], None),
    ("first stage", "loss stage1_classification", 1.4, None),
    ("whole step", "loss stage2_classification", 1.2, None),
    ("proposals at test", "proposals", [100, 7.0, 3.0], None),
]


@pytest.fixture
def witnesses(study):
    """What every run of the study did: the same."""
    return {run: [dict(zip(("step", "name", "value", "wanted"), one, strict=True)) for one in QUANTITIES]
            for run in study.run_ids}  # fmt: skip


def do_otherwise(witnesses, run, step, value, name=None):
    """Let a run give another value in a step."""
    quantity = next(one for one in witnesses[run] if one["step"] == step and name in (None, one["name"]))
    quantity["value"] = value


def found(study, controls, witnesses):
    """Quantity, run and other run of every violation."""
    violations = audit(study, controls, witnesses).of_kind("violation")
    assert all(one.check == "witness" for one in violations)
    return [(one.control, one.run, one.other_run) for one in violations]


@pytest.mark.parametrize(
    ("one", "other", "relative", "equal"),
    [
        (1.0, 1.0 + 1e-9, 1e-8, True),
        (1.0, 1.0 + 1e-7, 1e-8, False),
        (1.0, 1.0 + 1e-15, 0.0, False),
        ([100, 5.0, 1e-12], [100, 5.0, -1e-12], 1e-8, True),
        ([100, 5.0, 1e-3], [100, 5.0, -1e-3], 1e-8, False),
        ([[1.0, 2.0]], [[1.0, 2.0 + 1e-12]], 1e-8, True),
        ([], [], 0.0, True),
        ([1], [1, 2], 1e-8, False),
        ([1], 1, 1e-8, False),
        ("a", "b", 1e-8, False),
        (True, 1, 1e-8, False),
        (None, None, 0.0, True),
        (None, 0.0, 1e-8, False),
    ],
)
def test_values_are_compared_by_their_size(one, other, relative, equal):
    assert close(one, other, relative) is close(other, one, relative) is equal


def test_equal_witnesses_give_no_violation(study, controls, witnesses):
    assert found(study, controls, witnesses) == []
    assert audit(study, controls, witnesses).quantities == len(QUANTITIES)


def test_a_run_without_a_witness_is_a_violation(study, controls, witnesses):
    lost = study.run_ids[1]
    del witnesses[lost]
    violations = audit(study, controls, witnesses).of_kind("violation")
    assert [(one.check, one.run) for one in violations] == [("readings", lost)]
    assert "no witness.json" in violations[0].reason


def test_what_a_plain_computation_contradicts_is_a_violation_by_itself(study, controls, witnesses):
    for run in study.run_ids:
        do_otherwise(witnesses, run, "updates", 6)
    assert found(study, controls, witnesses) == [("updates: forward passes", run, "protocol") for run in study.run_ids]
    for run in study.run_ids:  # a control says so already
        change(controls, "schedule.iterations", 1, run)
    assert {one.check for one in audit(study, controls, witnesses).of_kind("violation")} == {"protocol"}


def test_one_run_that_does_otherwise_is_named_once_for_each_step_and_pair(study, controls, witnesses):
    (changed,) = runs(study, "Cascade R-CNN", "mmdet")
    (base,) = runs(study, "Faster R-CNN FPN", "mmdet")
    (other,) = runs(study, "Cascade R-CNN", "detectron2")
    do_otherwise(witnesses, changed, "proposal network", 0.7 + 1e-6)
    do_otherwise(witnesses, changed, "proposal network", [9, 4.1, 1.0], "gradient of rpn.conv.weight")
    assert found(study, controls, witnesses) == [
        ("proposal network: loss rpn_classification", changed, base),
        ("proposal network: loss rpn_classification", other, changed),
    ]
    finding = audit(study, controls, witnesses).of_kind("violation")[0]
    assert (finding.value, finding.other) == (0.7 + 1e-6, 0.7)
    assert finding.reason.endswith("so do 1 more of this step")


def test_the_last_bit_counts_within_a_framework_alone(study, controls, witnesses):
    (changed,) = runs(study, "Cascade R-CNN", "detectron2")
    do_otherwise(witnesses, changed, "first stage", 1.4 * (1 + 1e-12))
    (base,) = runs(study, "Faster R-CNN FPN", "detectron2")
    assert found(study, controls, witnesses) == [("first stage: loss stage1_classification", changed, base)]


@pytest.mark.parametrize(
    ("control", "value", "step", "explained"),
    [
        ("rpn.train_nms_iou", [0.6, 0.8], "first stage", True),
        ("rpn.train_nms_iou", [0.6, 0.8], "proposal network", False),
        ("heads.stages", 7, "first stage", False),
        ("heads.stages", 7, "whole step", True),
        ("optimizer.momentum", 0.8, "proposal network", False),
    ],
)
def test_a_declared_control_explains_the_steps_that_follow_from_it(
    study, controls, witnesses, control, value, step, explained
):
    changed = runs(study, "Cascade R-CNN")
    change(controls, control, value, *changed)
    for run in changed:
        do_otherwise(witnesses, run, step, 0.123)
    checks = [one for one in audit(study, controls, witnesses).of_kind("violation") if one.check == "witness"]
    assert bool(checks) is not explained


def test_stages_are_compared_by_their_first_where_the_first_works_alone(study, controls, witnesses):
    """The cascade's thresholds begin with the baseline's: they explain nothing about the first stage."""
    changed = runs(study, "Cascade R-CNN")
    for run in changed:
        do_otherwise(witnesses, run, "first stage", 0.5)
    assert {run for _, run, _ in found(study, controls, witnesses)} == set(changed)
    change(controls, "heads.iou_threshold", [0.4, 0.6, 0.7], *changed)
    violations = audit(study, controls, witnesses).of_kind("violation")
    assert {one.check for one in violations} == {"protocol"}


def test_stages_that_the_baseline_does_not_have_are_no_difference(study, controls, witnesses):
    for run in runs(study, "Faster R-CNN FPN"):
        witnesses[run] = [one for one in witnesses[run] if one["step"] != "whole step"]
    assert found(study, controls, witnesses) == []
    (lost,) = runs(study, "Cascade R-CNN", "mmdet")
    witnesses[lost] = [one for one in witnesses[lost] if one["step"] != "whole step"]
    assert {name for name, _, _ in found(study, controls, witnesses)} == {"whole step: loss stage2_classification"}


def test_frameworks_have_hooks_of_their_own(study, controls, witnesses):
    for run in runs(study, framework="mmdet"):
        do_otherwise(witnesses, run, "hooks", ["ParamSchedulerHook", "SessionHook"])
    assert found(study, controls, witnesses) == []


def test_every_step_has_words_and_controls():
    assert all(step.outcome and step.follows_from for step in STEPS.values())
    assert {step for step, *_ in QUANTITIES} <= set(STEPS)
