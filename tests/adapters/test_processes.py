"""Several processes that train one run (gloo, on the CPU): signals, faults, and who holds the run's folder."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from drawn_images import few_shapes
from trainings import changed, left, words

from adapters import commands, run_lease
from adapters.command_line import main
from cascadebench.core.files import read_json
from cascadebench.datasets.prepared import load_split, trainable
from cascadebench.determinism.training_order import training_order
from cascadebench.results.run_state import run_state


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve drawn training images."""
    return few_shapes(tmp_path_factory.mktemp("data") / "shapes", 12, 2)


@pytest.fixture
def divisible_run(small_run):
    """Return a function that makes a run of ten steps of two images, whose batch norm learns from no batch."""

    def make(framework, variant="faster_rcnn", base_lr=0.005, **options):
        schedule = {"iterations": 10, "base_lr": base_lr}
        run = small_run(framework, variant, **options)
        return changed(run, schedule=schedule, backbone={"batch_norm": "fixed_statistics"})

    return make


def words_of_two(run, out, data, *more) -> list[str]:
    """Command line of a training in two processes."""
    return words(run, "train", out, data, "--processes", "2", "--log-interval", "1", *more)


@contextmanager
def started(command, iterations):
    """Start a command as a job of its own, and go on when it has trained so many iterations."""
    job = subprocess.Popen(
        [sys.executable, "-m", "adapters", *command],
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        said = []
        for line in job.stdout:
            said.append(line)
            if line.startswith(f"iteration {iterations}/"):
                break
        assert said[-1].startswith("iteration "), "".join(said)
        yield job
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
        job.stdout.close()
        job.wait()


def children(process) -> list[int]:
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_signal_to_the_whole_job_leaves_a_checkpoint_that_is_gone_on_from(framework, divisible_run, data, tmp_path):
    run, whole, out = divisible_run(framework), tmp_path / "whole", tmp_path / "stopped"
    assert main(words_of_two(run, whole, data)) == 0
    with started(words_of_two(run, out, data, "--workers", "1"), 3) as job:
        os.killpg(job.pid, signal.SIGTERM)  # the processes' loaders too
        said = job.stdout.read()
        assert job.wait() == 128 + signal.SIGTERM, said
    assert said.splitlines()[-1].startswith("stopped by SIGTERM at iteration ")
    assert said.count("stopped by") == 1
    assert "Traceback" not in said
    assert run_state(out)[0] == "started"
    assert main(words_of_two(run, out, data)) == 0
    assert left(out) == left(whole)
    assert read_json(out / "trained.json")["resumes"] == 1


def test_a_signal_to_the_first_process_alone_reaches_all(divisible_run, data, tmp_path):
    with started(words_of_two(divisible_run("mmdet"), tmp_path, data), 2) as job:
        job.send_signal(signal.SIGINT)
        said = job.stdout.read()
        assert job.wait() == 128 + signal.SIGINT, said
    assert said.splitlines()[-1].startswith("stopped by SIGINT at iteration ")


def test_no_process_outlives_the_one_that_started_it(divisible_run, data, tmp_path):
    with started(words_of_two(divisible_run("detectron2"), tmp_path, data), 1) as job:
        others = children(job.pid)
        assert len(others) == 2
        job.kill()
        job.wait()
        deadline = time.monotonic() + 60
        while alive := [one for one in others if Path(f"/proc/{one}/cwd").exists()]:
            assert time.monotonic() < deadline, alive
            time.sleep(0.1)
    assert run_state(tmp_path)[0] == "failed"


def test_a_killed_process_ends_the_others_and_is_named(divisible_run, data, tmp_path):
    with started(words_of_two(divisible_run("mmdet"), tmp_path, data), 1) as job:
        os.kill(children(job.pid)[1], signal.SIGKILL)
        said = job.stdout.read()
        assert job.wait() == 1, said
    message = "process 1 of the 2 that train was ended by SIGKILL, probably for want of memory"
    assert said.splitlines()[-1] == f"error: {message}"
    assert "Traceback" not in said
    assert run_state(tmp_path) == ("failed", f"train: {message}")


def test_a_fault_in_one_process_is_told_and_not_what_it_does_to_the_other(
    framework, divisible_run, data, tmp_path, capfd
):
    run = divisible_run(framework)
    order = training_order(trainable(load_split(data, "train")), run.protocol, run.seed)
    read_before = set(order.images[:2].ravel())
    records = trainable(load_split(data, "train"))
    step = next(one for one in range(2, 6) if order.images[one, 1] not in read_before)
    assert order.images[step, 1] not in order.images[: step + 1, 0]  # only process 1 meets it
    path = records[order.images[step, 1]].path
    content = path.read_bytes()
    path.write_bytes(b"nothing")
    try:
        assert main(words_of_two(run, tmp_path, data)) == 1
    finally:
        path.write_bytes(content)
    said = capfd.readouterr().err
    assert "Traceback" not in said
    failure = read_json(tmp_path / "failed.json")
    assert failure["message"].startswith(f"{path}: the picture was damaged or replaced since")
    assert failure["log"] == [f"error: {failure['message']}"]


def test_a_loss_that_is_not_finite_is_final(framework, divisible_run, data, tmp_path, capfd):
    run = divisible_run(framework, base_lr=1e12)
    assert main(words_of_two(run, tmp_path, data)) == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    failure = read_json(tmp_path / "failed.json")
    assert failure["final"]
    assert "not finite" in failure["message"]
    assert main(words_of_two(run, tmp_path, data, "--attempt", "2")) == 1
    assert "(not tried again by itself)" in capfd.readouterr().err


def test_wrong_input_is_wrong_input_in_every_process(divisible_run, data, tmp_path, capfd):
    run = divisible_run("mmdet", "decoupled_rcnn", double_head=True)
    assert main(words_of_two(run, tmp_path, data)) == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "error: execution.gpus: 2: batch norm would learn from a part of each batch in decoupled_rcnn"
    )
    assert run_state(tmp_path) == ("failed", f"train: {said.removeprefix('error: ')}")


def test_the_processes_are_started_by_the_holder_of_the_folder(divisible_run, data, tmp_path, monkeypatch):
    events = []

    @contextmanager
    def leased(folder, command):
        events.append("taken")
        yield False
        events.append("given back")

    monkeypatch.setattr(run_lease, "leased", leased)
    monkeypatch.setattr(commands, "train_in_processes", lambda number, *_: events.append(number))
    assert main(words_of_two(divisible_run("mmdet"), tmp_path, data)) == 0
    assert events == ["taken", 2, "given back"]


def test_a_run_of_a_colleague_is_taken_and_nothing_started(divisible_run, data, tmp_path, monkeypatch, capsys):
    run = divisible_run("mmdet")
    there, here = tmp_path / "theirs" / "runs" / run.id, tmp_path / "ours"
    alone = [word if word != "2" else "1" for word in words_of_two(run, there, data)]
    assert main(alone) == 0
    for folder in (there, here):
        folder.mkdir(exist_ok=True)
        (folder / "controls.json").write_text(json.dumps({"controls": []}))
    trained_here = []
    monkeypatch.setattr(commands, "train_in_processes", lambda *_: trained_here.append(run.id))
    command = words_of_two(run, here, data, "--shared-results", str(tmp_path / "theirs"))
    monkeypatch.setattr(commands, "variant_digest", lambda *_: "of an edited module")
    assert main(command) == 0
    assert trained_here == [run.id]
    assert "'of an edited module' is expected" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(commands, "train_in_processes", lambda *_: pytest.fail("trained again"))
    assert main(command) == 0
    assert "taken from" in capsys.readouterr().out
    assert left(here) == left(there)
