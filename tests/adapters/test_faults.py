"""What stops a training or a prediction on its way, and what is left of it; in both frameworks."""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import time
from contextlib import redirect_stdout

import pytest
import torch
from drawn_images import few_shapes
from PIL import Image
from trainings import at_iteration, command, left

from adapters.data.training_dataset import TrainingDataset
from adapters.training.checkpoints import Checkpoints, read_checkpoint
from adapters.training.training_session import TrainingSession
from cascadebench.core.errors import Fault, InputError
from cascadebench.core.files import read_json
from cascadebench.detectors.backbone import load_backbone
from cascadebench.execution.failures import as_fault
from cascadebench.results.registered import register
from cascadebench.results.run_state import run_state
from cascadebench.study.study_file import Execution


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Eight drawn training images."""
    return few_shapes(tmp_path_factory.mktemp("data") / "shapes", 8, 2)


@pytest.fixture
def data(prepared, tmp_path):
    """A copy of the dataset that may be damaged."""
    return shutil.copytree(prepared, tmp_path / "data")


def train(run, out, data, *more) -> int:
    """Exit code of the training of a run in a folder."""
    return command(run, "train", out, data, "--checkpoint-interval", "2", *more)


def disturbed(monkeypatch, iteration, act, *training) -> int:
    """Exit code of a training in which something happens to a step."""
    with monkeypatch.context() as patched:
        at_iteration(patched, iteration, act)
        return train(*training)


def sent(number):
    """Send this process a signal."""
    return lambda _losses: os.kill(os.getpid(), number)


def not_a_number(losses):
    losses.update(rpn_regression=torch.tensor(float("nan")))


def summary(out):
    return read_json(out / "trained.json")


def test_a_training_that_signals_stop_ends_as_one_that_never_stopped(
    framework, small_run, prepared, tmp_path, monkeypatch, capsys
):
    run = small_run(framework, "cascade_rcnn")
    assert train(run, tmp_path / "whole", prepared) == 0
    stopped, registered = tmp_path / "runs" / "stopped", tmp_path / "studies" / "x" / "registered.json"
    content = {"study": "x", "dataset": {}, "rule": {}, "runs": [run.id], "questions": []}
    first = register(registered, content, {})
    for iteration, number in ((0, signal.SIGUSR1), (2, signal.SIGTERM), (3, signal.SIGINT)):
        assert disturbed(monkeypatch, iteration, sent(number), run, stopped, prepared) == 128 + number
        line = f"stopped by {number.name} at iteration {iteration + 1}; the next attempt resumes"
        assert capsys.readouterr().err.splitlines()[-1] == line
        assert read_checkpoint(stopped / "checkpoints" / "last.pt")["iteration"] == iteration + 1
        assert run_state(stopped)[0] == "started"
        register(registered, content | {"rule": {"alpha": iteration}}, {})  # too late for this training
    assert train(run, stopped, prepared) == 0
    assert left(stopped) == left(tmp_path / "whole")
    assert summary(tmp_path / "whole")["registered"] == []
    assert summary(stopped)["registered"] == [first.sha256]
    assert first.time <= summary(stopped)["began"] <= summary(stopped)["finished"]
    assert summary(stopped)["resumes"] == 3
    assert summary(stopped)["checkpoint_sha256"] == summary(tmp_path / "whole")["checkpoint_sha256"]
    assert summary(stopped)["notes"] == []


def test_damaged_checkpoints_are_passed_over_with_a_note(framework, small_run, prepared, tmp_path, monkeypatch):
    run = small_run(framework, "faster_rcnn")
    whole, out = tmp_path / "whole", tmp_path / "damaged"
    assert train(run, whole, prepared) == 0
    assert disturbed(monkeypatch, 4, sent(signal.SIGTERM), run, out, prepared) == 143
    checkpoints = out / "checkpoints"
    content = bytearray((checkpoints / "last.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoints / "last.pt").write_bytes(content)
    shutil.copytree(out, tmp_path / "both")
    assert train(run, out, prepared) == 0
    assert left(out) == left(whole)
    (note,) = summary(out)["notes"]
    assert "last.pt: damaged" in note
    assert note.endswith("resumed from previous.pt at iteration 4")

    both = tmp_path / "both"
    (both / "checkpoints" / "previous.pt").write_bytes(b"")
    assert train(run, both, prepared) == 0
    assert left(both) == left(whole)
    (note,) = summary(both)["notes"]
    assert note.endswith("no whole checkpoint is left: started anew")
    assert summary(both)["resumes"] == 0


def test_every_byte_of_a_checkpoint_is_guarded(tmp_path):
    """A changed byte is found, or lies where it says nothing about the content."""
    checkpoints = Checkpoints(tmp_path)
    state = {"iteration": 3, "consumed_sha256": "x", "model": {"w": torch.arange(4.0)}}
    state |= {"optimizer": {}, "scheduler": {}}
    checkpoints.save(state)
    whole = checkpoints.last.read_bytes()
    wrong = 0
    for place in range(0, len(whole), 7):
        checkpoints.last.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            found = read_checkpoint(checkpoints.last)
        except InputError:
            wrong += 1
        else:
            assert torch.equal(found.pop("model")["w"], state["model"]["w"])
            assert found == {key: value for key, value in state.items() if key != "model"}
    assert wrong > 10
    for size in range(0, len(whole), 50):
        checkpoints.last.write_bytes(whole[:size])
        with pytest.raises(InputError, match="damaged"):
            read_checkpoint(checkpoints.last)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = {"iteration": 8, "consumed_sha256": "", "model": {"w": torch.tensor([float("nan")])}}
    with pytest.raises(Fault, match="the weights w are not finite after iteration 7"):
        checkpoints.save(state)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_log_is_not_gone_on_with(small_run, prepared, tmp_path, monkeypatch, capsys):
    run = small_run("detectron2", "faster_rcnn")
    disturbed(monkeypatch, 3, sent(signal.SIGTERM), run, tmp_path, prepared)
    log = tmp_path / "train_log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    assert train(run, tmp_path, prepared) == 1
    assert "it has 2 of the 4 lines before iteration 4" in capsys.readouterr().err
    assert run_state(tmp_path)[0] == "failed"


def test_the_clock_saves_too(small_run, tmp_path):
    run = small_run("mmdet", "faster_rcnn")
    session = TrainingSession(run, tmp_path, torch.device("cpu"), Execution(checkpoint_minutes=0.5))
    assert not session._due(1)
    session._saved_at -= 31
    assert session._due(1)


def test_a_full_disk(framework, small_run, prepared, tmp_path, capsys):
    """The system refuses files above a size, as it refuses all on a full disk."""
    run = small_run(framework, "faster_rcnn")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        assert train(run, tmp_path, prepared) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    assert line.endswith("last.pt: cannot be written: File too large; the disk or a quota is full")
    assert run_state(tmp_path) == ("failed", f"train: {line.removeprefix('error: ')}")
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.pt")] == []
    assert list((tmp_path / "checkpoints").glob(".last*")) == []
    assert train(run, tmp_path, prepared) == 0
    assert run_state(tmp_path)[0] == "trained"


def test_a_loss_that_is_not_finite(framework, small_run, prepared, tmp_path, monkeypatch, capsys):
    run = small_run(framework, "faster_rcnn")
    assert disturbed(monkeypatch, 3, not_a_number, run, tmp_path, prepared) == 1
    message = "the loss is not finite at iteration 3: rpn_regression is nan; try a lower base_lr"
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {message}"
    assert run_state(tmp_path) == ("failed", f"train: {message}")
    assert train(run, tmp_path, prepared, "--attempt", "2") == 1  # what a cluster tries again by itself
    assert f"{message} (not tried again by itself)" in capsys.readouterr().err
    assert train(run, tmp_path, prepared) == 0


def damaged(data, kind):
    """Damage a picture of the training split; returns what must be said of it."""
    path = sorted((data / "images" / "train").iterdir())[3]
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-60])
        return f"{path}: the picture was damaged or replaced since the dataset was prepared: it has "
    if kind == "replaced":  # by another that can be read, of equal size
        content = path.read_bytes()
        with Image.open(path) as picture:
            black = Image.new("RGB", picture.size)
        black.save(path)
        path.write_bytes(path.read_bytes().ljust(len(content), b"\0"))
        assert path.stat().st_size == len(content)
        return f"{path}: the picture was damaged or replaced since the dataset was prepared: its SHA-256 is not "
    if kind == "missing":
        path.unlink()
        return f"{path}: no such file; it was there when the dataset was prepared"
    shutil.rmtree(path.parent)
    return f"{path.parent}: no such folder; are the pictures of the dataset still mounted?"


@pytest.mark.parametrize(("kind", "workers"), [("cut", 0), ("replaced", 1), ("missing", 0), ("mount", 0)])
def test_a_picture_that_cannot_be_read_is_named_in_the_same_words(kind, workers, small_run, data, tmp_path, capsys):
    said, expected = set(), damaged(data, kind)
    for framework in ("mmdet", "detectron2"):
        out = tmp_path / framework
        assert train(small_run(framework, "faster_rcnn"), out, data, "--workers", str(workers)) == 1
        lines = capsys.readouterr().err.splitlines()
        said.add(lines[-1])
        assert not [line for line in lines if "Traceback" in line]
        assert run_state(out) == ("failed", f"train: {lines[-1].removeprefix('error: ')}")
    (line,) = said
    assert line.startswith(f"error: {expected}")


CONSUMED = {
    "another image": lambda index, side, flip: ((index + 1) % 8, side, flip),
    "not mirrored": lambda index, side, flip: (index, side, not flip),
    "smaller": lambda index, side, flip: (index, side - 64, flip),
}


@pytest.mark.parametrize("what", CONSUMED)
def test_a_training_on_other_images_than_planned_fails_and_says_from_where(
    what, framework, small_run, prepared, tmp_path, monkeypatch, capsys
):
    run, drawn = small_run(framework, "faster_rcnn"), TrainingDataset._drawn

    def changed(self, position):
        index, side, flip = drawn(self, position)
        return CONSUMED[what](index, side, flip) if position // 2 >= 3 else (index, side, flip)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingDataset, "_drawn", changed)
        assert train(run, tmp_path, prepared) == 1
    message = f"{tmp_path / 'train_log.jsonl'}: from iteration 3 on the images, flips or sizes that were trained on are"
    assert f"error: {message} not the planned ones" in capsys.readouterr().err
    assert run_state(tmp_path)[0] == "failed" and not (tmp_path / "trained.json").exists()
    assert train(run, tmp_path, prepared) == 1  # the checkpoint is not gone on with
    shutil.rmtree(tmp_path / "checkpoints")
    assert train(run, tmp_path, prepared) == 0
    manifest = summary(tmp_path)
    assert manifest["consumed_sha256"] == manifest["planned_sha256"]


def test_a_dataset_that_has_changed_since_it_was_prepared(small_run, data, tmp_path, capsys):
    (data / "train.json").write_text((data / "train.json").read_text() + "\n")
    assert train(small_run("mmdet", "faster_rcnn"), tmp_path / "run", data) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {data / 'train.json'}: it was changed since the dataset was prepared")
    assert run_state(tmp_path / "run")[0] == "failed"


def test_a_checkpoint_that_has_changed_since_the_training_predicts_nothing(small_run, prepared, tmp_path, capsys):
    run = small_run("detectron2", "faster_rcnn")
    assert train(run, tmp_path, prepared) == 0
    path = tmp_path / "checkpoints" / "last.pt"
    path.write_bytes((tmp_path / "checkpoints" / "previous.pt").read_bytes())
    assert command(run, "predict", tmp_path, prepared) == 1
    assert "its checksum is not that of trained.json" in capsys.readouterr().err
    assert not (tmp_path / "detections.parquet").exists()


def test_want_of_memory_is_told_in_one_line():
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes")):
        assert str(as_fault(error)).startswith("out of memory: ")
    killed = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    assert "probably for want of memory" in str(as_fault(killed))
    ended = RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. ")
    assert "memory" not in str(as_fault(ended))
    assert str(as_fault(ended)).endswith("killed by signal: Terminated.")
    assert as_fault(KeyError("a mistake")) is None


def test_what_detectron2_says_of_numbers_that_are_not_finite_is_final():
    fault = as_fault(FloatingPointError("Predicted boxes or scores contain Inf/NaN. Training has diverged."))
    assert fault.final
    assert "not finite: Predicted boxes or scores contain Inf/NaN" in str(fault)


def test_a_signal_to_the_processes_that_read_too(framework, small_run, prepared, tmp_path, monkeypatch, capsys):
    """A cluster may send its signal to every process of a job."""

    def signal_all(losses):
        readers = multiprocessing.active_children()
        pids = [str(pid) for pid in (*(one.pid for one in readers), os.getpid())]
        # By another process: from its parent, torch lets a reader take the signal for a regular end.
        subprocess.run(["kill", "-TERM", *pids], check=True)
        time.sleep(0.5)  # for the reader to die, if it is to
        assert len(readers) == 1

    run = small_run(framework, "faster_rcnn")
    code = disturbed(monkeypatch, 1, signal_all, run, tmp_path, prepared, "--workers", "1")
    assert code == 128 + signal.SIGTERM
    line = "stopped by SIGTERM at iteration 2; the next attempt resumes"
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert train(run, tmp_path, prepared, "--workers", "1") == 0


def test_a_person_s_attempt_forgets_what_was_final(small_run, prepared, tmp_path, monkeypatch):
    run = small_run("mmdet", "faster_rcnn")
    assert disturbed(monkeypatch, 3, not_a_number, run, tmp_path, prepared) == 1
    assert disturbed(monkeypatch, 4, sent(signal.SIGTERM), run, tmp_path, prepared) == 143
    assert run_state(tmp_path)[0] == "started"
    assert train(run, tmp_path, prepared, "--attempt", "2") == 0


def test_wrong_input_that_shows_on_a_node_is_the_state_of_the_run(small_run, prepared, tmp_path, capsys):
    run = small_run("mmdet", "faster_rcnn")
    weights = load_backbone("resnet50", "test").weights.model_copy(update={"path": str(tmp_path / "none.pth")})
    run = run.model_copy(update={"backbone": run.backbone.model_copy(update={"weights": weights})})
    assert train(run, tmp_path / "out", prepared) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "none.pth" in line
    assert run_state(tmp_path / "out") == ("failed", f"train: {line.removeprefix('error: ')}")


def test_the_images_of_a_step_are_known_to_a_process_that_trains_nothing(small_run, prepared, tmp_path):
    run = small_run("detectron2", "faster_rcnn")
    assert train(run, tmp_path, prepared) == 0
    (tmp_path / "trained.json").unlink()
    assert train(run, tmp_path, prepared) == 0
    assert summary(tmp_path)["images_per_step"] == 2
    state = read_checkpoint(tmp_path / "checkpoints" / "last.pt")
    del state["images_per_step"]  # as an earlier version wrote it
    Checkpoints(tmp_path / "checkpoints").save(state)
    assert Checkpoints(tmp_path / "checkpoints").load().state["iteration"] == 6
    assert train(run, tmp_path, prepared) == 0


def test_two_processes_that_want_the_same_run_train_it_once(small_run, prepared, tmp_path):
    run = small_run("mmdet", "faster_rcnn")
    children = []
    for number in range(2):
        child = os.fork()
        if not child:
            code = 70
            try:
                with (tmp_path / f"{number}.txt").open("w") as log, redirect_stdout(log):
                    code = train(run, tmp_path / "run", prepared)
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    said = sorted((tmp_path / f"{number}.txt").read_text().count("made meanwhile") for number in range(2))
    assert said == [0, 1]
    attempts = (tmp_path / "run" / "checkpoints" / "attempts.jsonl").read_text().splitlines()
    assert len(attempts) == 1
