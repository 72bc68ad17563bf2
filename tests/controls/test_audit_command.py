"""``cascadebench audit`` and ``cascadebench docs``: what they read, write, print and return."""

import json

import pandas as pd
import pytest
from readings import change, runs, write_controls
from typer.testing import CliRunner

from cascadebench.cli.main import app
from cascadebench.controls.audit_files import audit_study, read_audit, study_controls
from cascadebench.controls.definitions import CONTROLS
from cascadebench.controls.docs_page import write_page
from cascadebench.core.errors import InputError
from cascadebench.core.files import write_json


def test_the_files_hold_every_finding(study, controls, tmp_path):
    change(controls, "rpn.anchor_sides", [1.0, 2.5], *runs(study, "Cascade R-CNN"))
    change(controls, "model.operators", "compiled", *runs(study, framework="detectron2"))
    write_controls(tmp_path, controls)
    assert study_controls(study, tmp_path) == {
        run: [{"name": one["name"], "value": one["value"], "read_from": one["read_from"]} for one in entries]
        for run, entries in controls.items()
    }
    outcome = audit_study(study, tmp_path)
    folder = tmp_path / "studies" / "tiny"
    assert read_audit(folder / "audit.json") == outcome
    written = json.loads((folder / "audit.json").read_text())
    assert (written["passed"], written["verdict"]) == (False, outcome.verdict)
    table = pd.read_csv(folder / "audit.csv")
    assert list(table["kind"]) == ["violation", "violation", "framework difference", "framework difference"]
    assert json.loads(table["value"][0]) == [1.0, 2.5]


def test_an_audit_without_findings_has_its_files_too(study, controls, tmp_path):
    write_controls(tmp_path, controls)
    audit_study(study, tmp_path)
    assert (tmp_path / "studies/tiny/audit.csv").read_text().startswith("kind,check,control,run,other_run,value,")
    assert read_audit(tmp_path / "studies/tiny/audit.json").passed


def call(*arguments: object) -> tuple[int, str]:
    """Exit code and output of the command line."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    return done.exit_code, done.stdout


def test_the_command_prints_violations_first_and_ends_with_1(study, study_file, controls, tmp_path):
    wrong = runs(study, "Cascade R-CNN")
    change(controls, "rpn.nms_iou", 0.5, *wrong)
    change(controls, "model.operators", "compiled", *runs(study, framework="detectron2"))
    for entry in controls[wrong[0]]:
        entry["read_from"] = f"[one.{entry['name']} for one in {'very_' * 30}long_places]"
    write_controls(tmp_path, controls)
    code, text = call("audit", study_file, "--results", tmp_path)
    assert code == 1
    for run in wrong:
        assert run in text
    for word in ("0.5", "0.7", "protocol", "says otherwise", f"[one.rpn.nms_iou for one in {'very_' * 30}long_places]"):
        assert word in text
    assert text.index("Violations") < text.index("Framework differences") < text.index("2 violations; 1 stated")
    assert CONTROLS["model.operators"].reason in text


def test_the_command_ends_with_0_without_violations(study, study_file, controls, tmp_path):
    write_controls(tmp_path, controls)
    code, text = call("audit", study_file, "--results", tmp_path)
    assert (code, text.strip()) == (
        0,
        f"tiny: 0 violations; 0 stated framework differences ({len(CONTROLS)} controls and up to 1 witnessed "
        f"quantities in {len(study.runs)} runs)",
    )


def test_the_command_names_a_run_that_was_not_inspected(study, study_file, controls, tmp_path):
    lost = study.run_ids[2]
    write_controls(tmp_path, {run: entries for run, entries in controls.items() if run != lost})
    code, text = call("audit", study_file, "--results", tmp_path)
    assert code == 1
    assert lost in text
    assert "no controls.json" in text


def test_readings_in_another_form_are_refused(study, controls, tmp_path):
    write_controls(tmp_path, controls)
    path = tmp_path / "runs" / study.run_ids[0] / "controls.json"
    write_json(path, {"run": study.run_ids[0], "versions": {}, "controls": [{"name": "rpn.nms_iou"}]})
    with pytest.raises(InputError, match=r"controls.json: controls.0.value: missing"):
        audit_study(study, tmp_path)


def test_a_page_is_not_written_without_all_controls(study, controls, tmp_path):
    write_controls(tmp_path, controls)
    write_page(study, tmp_path, tmp_path / "page.md")
    assert "`model.rpn.nms_iou` | `model.rpn.nms_iou` |" in (tmp_path / "page.md").read_text()
    (tmp_path / "page.md").unlink()
    run = runs(study, "Cascade R-CNN", "mmdet")[0]
    write_controls(tmp_path, {run: controls[run][1:]})
    with pytest.raises(InputError, match=r"1 are missing, among them schedule\.iterations"):
        write_page(study, tmp_path, tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()
