"""Runs of somebody else: taken when all is right, refused in one line when anything is not."""

import json
import shutil

import pytest

from adapters.training.checkpoints import Checkpoints, beginning
from cascadebench.core.errors import Fault, InputError
from cascadebench.core.files import sha256_of, write_json
from cascadebench.execution.shared_runs import (
    check_prediction,
    digests,
    shared_folder,
    take_prediction,
    take_training,
)
from cascadebench.results.layout import TRAINING_FILES, RunFolder
from cascadebench.study_loading import load_study

RUN = load_study("tiny").runs[0].run
EXPECTED = {"iterations": 480, "dataset_sha256": "d"}
PREDICTED = {"checkpoint_sha256": "c", "images": 3}
CONTROLS = [{"name": "rpn.nms", "value": 0.7, "read_from": "here"}]


@pytest.fixture
def shared(tmp_path):
    """A folder of results with one finished run of made-up content, and our own run beside it, inspected."""
    there = tmp_path / "theirs" / "runs" / RUN.id
    RUN.write(there / "run.yaml")
    for number, name in enumerate((*TRAINING_FILES, "detections.parquet", "proposals.parquet")):
        (there / name).parent.mkdir(exist_ok=True)
        (there / name).write_text(f"content {number}")
    checkpoint = sha256_of(there / "checkpoints/last.pt")
    manifest = {"run": RUN.id, "checkpoint_sha256": checkpoint, "files": digests(there, TRAINING_FILES)}
    write_json(there / "trained.json", manifest | EXPECTED)
    files = digests(there, ["detections.parquet", "proposals.parquet"])
    write_json(there / "predicted.json", {"run": RUN.id, "files": files} | PREDICTED)
    write_json(there / "controls.json", {"controls": CONTROLS})
    write_json(tmp_path / "own" / "controls.json", {"controls": CONTROLS})
    return tmp_path / "theirs"


def take(shared):
    take_training(shared, RUN, RunFolder(shared.parent / "own"), EXPECTED)


def test_a_finished_run_is_copied_and_its_origin_noted(shared):
    there, own = shared / "runs" / RUN.id, shared.parent / "own"
    take(shared)
    take_prediction(shared, RUN, RunFolder(own), PREDICTED, ["detections.parquet"])
    for name in (*TRAINING_FILES, "detections.parquet", "proposals.parquet"):
        assert (own / name).read_bytes() == (there / name).read_bytes()
        assert not (own / name).samefile(there / name)
    for name in ("trained.json", "predicted.json"):
        assert json.loads((own / name).read_text()) == json.loads((there / name).read_text()) | {
            "taken_from": str(there)
        }


def test_a_training_that_is_taken_began_where_it_was_made(shared):
    """Nothing that is registered here was registered before it, also if a kill comes before its manifest."""
    began = {"began": "2026-01-02T03:04:05+00:00", "registered": ["theirs"]}
    change("trained.json", **began)(shared / "runs" / RUN.id)
    take(shared)
    own = RunFolder(shared.parent / "own")
    assert json.loads(own.trained.read_text()).items() >= began.items()
    assert beginning(Checkpoints(own.checkpoints).attempts()) == began


def change(name, **values):
    """A change of a manifest."""
    return lambda there: write_json(there / name, json.loads((there / name).read_text()) | values)


WRONG = {
    "another checkpoint": (lambda there: (there / "checkpoints/last.pt").write_text("x"), "checksum is not that"),
    "another log": (lambda there: (there / "train_log.jsonl").write_text("x"), "checksum is not that"),
    "no statistics": (lambda there: (there / "stage_statistics.parquet").unlink(), "no such file"),
    "not finished": (lambda there: (there / "trained.json").unlink(), "trained.json: no such file"),
    "no checksums": (change("trained.json", files={}), "files: the checksums"),
    "other images": (change("trained.json", dataset_sha256="e"), "dataset_sha256: is 'e'; 'd' is expected"),
    "not all iterations": (change("trained.json", iterations=1), "iterations: is 1; 480 is expected"),
    "another run": (
        lambda there: RUN.model_copy(update={"seed": 1}).write(there / "run.yaml"),
        "run.yaml: it is the run",
    ),
    "other values": (
        change("controls.json", controls=[CONTROLS[0] | {"value": 0.5}]),
        "rpn.nms: is 0.5; here it is 0.7",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_anything_wrong_is_refused_and_nothing_is_left_as_finished(shared, what):
    damage, words = WRONG[what]
    damage(shared / "runs" / RUN.id)
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        take(shared)
    left = [path for path in (shared.parent / "own").rglob("*") if path.is_file()]
    assert left == [shared.parent / "own" / "controls.json"]


def test_a_prediction_of_other_weights_or_without_a_file_is_refused(shared):
    own = shared.parent / "own"
    with pytest.raises(InputError, match="checkpoint_sha256: is 'c'; 'other' is expected"):
        take_prediction(shared, RUN, RunFolder(own), PREDICTED | {"checkpoint_sha256": "other"}, [])
    with pytest.raises(InputError, match=r"files: recall.parquet is not among them"):
        take_prediction(shared, RUN, RunFolder(own), PREDICTED, ["recall.parquet"])
    assert not (own / "predicted.json").exists()


def test_detections_that_are_not_those_of_the_manifest_are_not_evaluated(shared):
    there = shared / "runs" / RUN.id
    weights = json.loads((there / "trained.json").read_text())["checkpoint_sha256"]
    with pytest.raises(Fault, match="the run was trained again"):
        check_prediction(there)
    change("predicted.json", checkpoint_sha256=weights)(there)
    check_prediction(there)
    (there / "detections.parquet").write_text("others")
    with pytest.raises(Fault, match=r"detections.parquet: missing, or its checksum is not that"):
        check_prediction(there)


def test_the_folder_must_be_anothers_results(shared, tmp_path):
    assert shared_folder(str(shared), tmp_path / "results") == shared
    with pytest.raises(InputError, match="no folder runs/"):
        shared_folder(str(tmp_path), tmp_path / "results")
    shutil.copytree(shared, tmp_path / "results")
    with pytest.raises(InputError, match="own folder of results"):
        shared_folder(str(tmp_path / "results"), tmp_path / "results")
