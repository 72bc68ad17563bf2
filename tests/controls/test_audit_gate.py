"""Snakemake: nothing trains before the audit, and a violation ends the study with the table, the report and code 1."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from readings import change, right_controls, write_controls
from small_studies import small_study, snakemake

from cascadebench.core.configuration import PROJECT
from cascadebench.core.files import write_json
from cascadebench.detectors.new_variant import new_variant
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study


def write_study(folder: Path, name: str = "small", **changes) -> Study:
    """Write the embedded study with two detectors and few images."""
    two = [{"variant": "faster_rcnn"}, {"variant": "cascade_rcnn"}]
    return small_study(folder, name, **{"variants": two} | changes)


def inspected(folder: Path, wrong: bool = False, **changes) -> Study:
    """A study whose runs are inspected; `wrong`: one of them has another NMS than the protocol."""
    study = write_study(folder, **changes)
    controls = right_controls(study)
    if wrong:
        change(controls, "rpn.nms_iou", 0.55, study.run_ids[-1])
    folders = {planned.run.id: folder / "results" / "runs" / planned.run.id for planned in study.runs}
    for run, of_run in folders.items():
        study.run(run).write(of_run / "run.yaml")
    for of_run in folders.values():  # after every run.yaml: a job may inspect several runs
        write_json(of_run / "cost.json", {"parameters": 1})
    write_controls(folder / "results", controls)
    return study


def test_a_violation_stops_the_study_before_any_training(tmp_path):
    study = inspected(tmp_path, wrong=True)
    text = snakemake(tmp_path, expected=1)
    assert "rule audit:" in text
    assert "rule train:" not in text
    for word in ("Violations", "rpn.nms_iou", study.run_ids[-1], "0.55", "0.7", "model.rpn.nms_iou", "1 violation"):
        assert word in text
    assert not list((tmp_path / "results" / "runs").glob("*/checkpoints"))
    report = (tmp_path / "reports" / "small.html").read_text()
    assert "1 violation" in report
    assert "model.rpn.nms_iou" in report

    # An audit by hand shows the same and opens nothing.
    command = [sys.executable, "-m", "cascadebench", "audit", str(tmp_path / "small.yaml"), "--results", "results"]
    by_hand = subprocess.run(command, check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(PROJECT)})
    assert by_hand.returncode == 1
    assert (tmp_path / "results/studies/small/audit.json").exists()
    assert "rule audit:" in snakemake(tmp_path, "--dry-run")

    # Accepted with a reason, the study goes on.
    entry = {"control": "rpn.nms_iou", "framework": "detectron2", "reason": "It is a test."}
    write_study(tmp_path, accepted_violations=[entry])
    snakemake(tmp_path, "--until", "audit")
    dry = snakemake(tmp_path, "--dry-run")
    assert "rule audit:" not in dry
    assert dry.count("rule train:") == 4
    # What was accepted is no longer: it is audited again.
    write_study(tmp_path)
    assert "rule audit:" in snakemake(tmp_path, "--dry-run")


def test_a_trained_run_is_not_trained_again_for_another_study_s_audit(tmp_path):
    study = inspected(tmp_path)
    trained = study.run_ids[0]
    snakemake(tmp_path, "prepare", "audit")
    write_json(tmp_path / "results" / "runs" / trained / "trained.json", {})
    write_study(tmp_path, "other", seeds=[0, 1])
    text = snakemake(tmp_path, "--dry-run", study="other")
    assert "rule inspect" in text
    assert text.count("rule train:") == 7
    assert "rule audit:" in text
    assert f"results/runs/{trained}/trained.json\n    log" not in text


@pytest.fixture
def edited(tmp_path) -> Path:
    """A study inspected and audited beside a variant of its own, whose module is edited afterwards."""
    new_variant("mine", "cascade_rcnn", tmp_path / "variants")
    variants = [{"variant": "faster_rcnn"}, {"variant": "mine"}]
    changes = {"variants": variants, "variant_folders": ["variants"], "seeds": [0]}
    study = inspected(tmp_path, **changes)
    snakemake(tmp_path, "--touch", "--forceall", "inspections")  # as if it had inspected them
    snakemake(tmp_path, "prepare", "audit")
    assert "Nothing to be done" in snakemake(tmp_path, "--dry-run", "audit")
    write_json(tmp_path / "results" / "runs" / study.run_ids[-1] / "trained.json", {})
    module = tmp_path / "variants" / "mine" / "mmdet.py"
    module.write_text(module.read_text() + '    config["rpn_head"]["anchor_generator"]["scales"] = [6]\n')
    return tmp_path


def test_an_edited_module_is_inspected_and_audited_again(edited):
    text = snakemake(edited, "--dry-run")
    assert text.count("rule inspect_mmdet_2:") == text.count("rule inspect_detectron2_2:") == 1
    assert "rule inspect_mmdet:" not in text  # the project's own, which have not changed
    assert "rule audit:" in text
    trained = load_study(str(edited / "small.yaml")).run_ids[-1]
    assert text.count("rule train:") == 3
    assert f"results/runs/{trained}/trained.json\n    log" not in text


def test_a_module_that_does_not_load_leaves_the_other_runs_inspected(tmp_path):
    """And it is the one thing that is said: no table or report of a dataset that is not prepared is tried."""
    new_variant("mine", "cascade_rcnn", tmp_path / "variants")
    (tmp_path / "variants" / "mine" / "mmdet.py").write_text("import nothing_there\n")
    variants = [{"variant": "faster_rcnn"}, {"variant": "mine"}]
    changes = {"variants": variants, "variant_folders": ["variants"], "seeds": [0], "frameworks": ["mmdet"]}
    study = write_study(tmp_path, **changes)
    text = snakemake(tmp_path, "inspections", expected=1)
    assert "mine/mmdet.py:1: ModuleNotFoundError: No module named 'nothing_there'" in text
    assert "Traceback" not in text
    assert "lock.json" not in text
    folders = [tmp_path / "results" / "runs" / run for run in study.run_ids]
    assert [(folder / "controls.json").exists() for folder in folders] == [True, False]


@pytest.mark.parametrize("target", ["inspections", "audit"])
def test_one_can_stop_before_any_training(tmp_path, target):
    write_study(tmp_path)
    text = snakemake(tmp_path, "--dry-run", target)
    assert "rule inspect" in text
    assert "rule train:" not in text
    assert ("rule audit:" in text) is (target == "audit")
