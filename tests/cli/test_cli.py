"""The command line: wrong input is one line on standard error and exit code 2, without a traceback; its JSON Schemas.

Those under workflows/schemas are those of the models; `make schemas` writes them.
"""

import json

import pytest
from commands import call
from detection_cases import annotations
from refusals import assert_refused

from cascadebench.cli.schemas import MODELS, schema
from cascadebench.core.configuration import PROJECT
from cascadebench.core.files import read_json
from cascadebench.metrics.coco.ap_table import METRICS
from cascadebench.study_loading import load_study


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "nonsense"], "study: unknown name 'nonsense'"),
        (["plan", "/no/such/study.yaml"], "/no/such/study.yaml: cannot be read"),
        (["aggregate", "nonsense"], "study: unknown name"),
        (["register", "nonsense"], "study: unknown name"),
        (["report", "nonsense"], "study: unknown name"),
        (["intervals", "nonsense"], "study: unknown name"),
        (["prepare", "nonsense", "--out", "/tmp/nothing"], "dataset: unknown name"),
        (["freeze", "tiny", "--run", "x", "--out", "/tmp/nothing"], "no run 'x'"),
        (["evaluate", "--annotations", "/no/gt.json", "--detections", "/no/dt.json"], "/no/dt.json: cannot be read"),
    ],
)
def test_wrong_input_is_refused_in_one_line(arguments, message):
    assert_refused(call(*arguments), message)


def test_plan_lists_every_run_in_full():
    done = call("plan", "tiny")
    assert done.returncode == 0
    for run in load_study("tiny").run_ids:
        assert run in done.stdout
    assert "Effects that this study decides with 80%, each among its 24 sampled questions" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    effects = {line[0]: line for line in lines if line and line[0] in load_study("tiny").file.claims}
    assert len(effects) == 10
    assert effects["cascade-gains-ap"][3:] == ["greater", "than", "2", "none", "7.06", "5.52", "4.61", "[1]"]
    assert "One seed decides nothing, whatever the effect: verdicts need 2 seeds or more." in done.stdout
    assert "[1] assumed until it is measured: standard deviation of an AP between seeds, 1 points." in done.stdout


def test_register_says_what_is_new_and_refuses_a_file_that_was_edited(tmp_path):
    done = call("register", "tiny", "--results", tmp_path)
    asked = 2 * len(load_study("tiny").file.claims) + len(load_study("tiny").file.variants)
    assert (done.returncode, done.stdout.count("\nnew: ")) == (0, asked), done.stderr
    path = tmp_path / "studies" / "tiny" / "registered.json"
    written = path.read_text()
    assert "unchanged since registration 1" in call("register", "tiny", "--results", tmp_path).stdout
    assert path.read_text() == written
    path.write_text(written.replace('"alpha": 0.05', '"alpha": 0.5'))
    assert_refused(call("register", "tiny", "--results", tmp_path), "[0]: sha256: not that of its content")


def test_doctor_finds_everything_here():
    done = call("doctor")
    assert done.returncode == 0, done.stdout
    for word in ("torch", "mmdet", "detectron2", "mmcv operators", "Detectron2 operators", "GPUs"):
        assert word in done.stdout
    assert "missing" not in done.stdout


@pytest.fixture
def run_file(tmp_path):
    """A run of the embedded study, written out."""
    run = load_study("tiny").runs[0].run
    run.write(tmp_path / "run.yaml")
    return tmp_path / "run.yaml"


def adapter(framework, command, run_file, *more):
    """Call an adapter on a run; what it would write goes beside the run's file."""
    return call(framework, command, "--run", run_file, "--out", run_file.parent / "out", *more, module="adapters")


def test_an_adapter_refuses_another_framework_s_run(run_file):
    assert_refused(adapter("detectron2", "inspect", run_file), "framework: is 'mmdet', asked for 'detectron2'")
    assert not (run_file.parent / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\nseed: 0", "\nseed: zero", "run.yaml: seed: input should be a valid integer"),
        ("iterations: ", "iteration: ", "run.yaml: protocol.schedule."),
        ("depth: 18", "depth: 19", "run.yaml: backbone.depth"),
    ],
)
def test_an_adapter_refuses_a_malformed_run(run_file, old, new, message):
    text = run_file.read_text()
    assert old in text
    run_file.write_text(text.replace(old, new, 1))
    assert_refused(adapter("mmdet", "inspect", run_file), message)


def test_an_adapter_refuses_more_gpus_than_there_are(run_file):
    assert_refused(adapter("mmdet", "predict", run_file, "--gpus", 99), "--gpus 99: torch sees")


def test_an_untrained_run_cannot_predict(run_file, tmp_path):
    (tmp_path / "data").mkdir()
    assert_refused(adapter("mmdet", "predict", run_file, "--data", tmp_path / "data"), "lock.json: cannot be read")


def test_evaluate_prints_the_documented_keys(tmp_path):
    found = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 9], "score": 1}]
    (tmp_path / "gt.json").write_text(json.dumps(annotations([(1, 1, 0, 0, 10, 10)], images=[1], categories=["a"])))
    (tmp_path / "dt.json").write_text(json.dumps(found))
    done = call("evaluate", "--annotations", tmp_path / "gt.json", "--detections", tmp_path / "dt.json", "--json")
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    assert set(numbers) == {"test_stage", *METRICS, "per_class"}
    assert numbers["AP"] == pytest.approx(0.9)
    assert [numbers[f"AP{iou}"] for iou in range(50, 100, 5)] == pytest.approx([1.0] * 9 + [0.0])
    assert numbers["APs"] == numbers["AP"]
    assert numbers["APm"] is None
    assert numbers["AR100"] == pytest.approx(0.9)
    assert numbers["per_class"]["a"]["AP50"] == pytest.approx(1.0)


FOLDER = PROJECT / "workflows" / "schemas"


@pytest.mark.parametrize("name", MODELS)
def test_the_schema_on_disk_is_the_model_s(name):
    assert read_json(FOLDER / f"{name}.schema.json") == schema(name)


def test_there_is_no_other_schema():
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.schema.json" for name in MODELS}
