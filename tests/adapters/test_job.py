"""A job holds what the command line says, and its defaults are those of a study."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch

from adapters.command_line import job_of, main, parse
from cascadebench.execution.interruption import Interruption
from cascadebench.study.study_file import Execution


@pytest.fixture
def job(small_run):
    """Return a function that makes the job of a command line."""
    run = small_run("mmdet", "faster_rcnn")

    def make(*words, command="train", out="out"):
        words = ["mmdet", command, "--run", "run.yaml", "--out", out, *words]
        return job_of(parse(words), run, torch.device("cpu"), words, {}, Interruption())

    return make


def test_without_options_a_run_is_executed_as_a_study_says_by_default(job):
    made = job()
    assert made.execution == Execution()
    assert (made.processes, made.attempt, made.stage, made.proposals_of) == (1, 1, 0, None)
    assert made.out.path == Path("out")
    assert made.data.path == Path("results/datasets") / made.run.dataset.name
    assert made.argv == ("mmdet", "train", "--run", "run.yaml", "--out", "out")


def test_every_option_of_execution_reaches_the_job(job):
    options = ("--threads 3", "--accumulation 2", "--workers 4", "--checkpoint-interval 50", "--checkpoint-minutes 0.5",
               "--log-interval 7", "--diagnostics 0", "--processes 2", "--data d")  # fmt: skip
    made = job(*(word for option in options for word in option.split()))
    expected = {"cpu_threads": 3, "accumulation": 2, "loader_workers": 4, "checkpoint_interval": 50,
                "checkpoint_minutes": 0.5, "log_interval": 7, "diagnostics": False}  # fmt: skip
    assert made.execution == Execution(**expected)
    assert (made.processes, made.data.path) == (2, Path("d"))


def test_below_a_common_folder_every_run_has_its_own(job):
    made = job("--each", command="inspect", out="runs")
    assert made.out.path == Path("runs") / made.run.id


def test_a_job_is_not_changed_on_the_way(job):
    with pytest.raises(FrozenInstanceError):
        job().out = None


def test_a_wrong_setting_is_told_in_one_line(small_run, tmp_path, capsys):
    run = small_run("mmdet", "faster_rcnn")
    run.write(tmp_path / "run.yaml")
    words = ["mmdet", "inspect", "--run", str(tmp_path / "run.yaml"), "--out", str(tmp_path), "--log-interval", "0"]
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == ["error: command line: log_interval: input should be greater than or equal to 1; found 0"]
