"""The steps around a GPU run, on the CPU and with made-up files: no training, and nothing about a GPU is shown."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from choose_wheels import chosen, missing, names_in, split
from device_parity import proposals_compared
from single_training import killed, training_command
from study_for_gpu import scaled, write_study
from summarize import samples, use_of_gpu

from cascadebench.core.configuration import PROJECT
from cascadebench.core.files import write_json
from cascadebench.study.study_file import load_protocol
from cascadebench.study_loading import load_study

LOCK = PROJECT / "requirements.lock"
SCRIPT = PROJECT / "tests" / "gpu" / "run.sh"


def run_script(*arguments: str) -> subprocess.CompletedProcess:
    """Run run.sh."""
    return subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--step", "fly"), "--step fly: unknown; allowed: install parity"),
        (("--minuten", "3"), "--minuten: unknown"),
        (("--data",), "--data: needs a value"),
        (("--data", "/nowhere"), "--data /nowhere: no train.json there"),
        (("--minutes", "0"), "--minutes 0: a whole number"),
        (("--device", "tpu"), "--device tpu: allowed: cuda, cpu"),
    ],
)
def test_a_wrong_argument_ends_in_one_line(arguments, message):
    done = run_script(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_wheels_are_those_that_the_machine_lacks(tmp_path):
    listed = tmp_path / "present.txt"
    listed.write_text("Package    Version\n---------- -------\nscipy      1.18.1\nsetuptools 82.0.0\nPyYAML==6.0\n")
    assert {"scipy", "setuptools", "pyyaml"} <= names_in(listed)
    everything, lacking = chosen(LOCK, set()), chosen(LOCK, names_in(listed))
    names = {pin.partition("==")[0] for pin in everything}
    assert {"onedl-mmcv", "onedl-mmdetection", "snakemake", "pycocotools", "numba"} <= names
    assert not {name for name in names if name.startswith(("torch", "nvidia", "triton", "cuda"))}
    assert not {"ruff", "playwright", "uv"} & names
    assert [pin for pin in everything if pin.startswith("numpy==")] == ["numpy==2.5.5"]  # the pin for Python 3.12
    assert set(everything) - set(lacking) == {"scipy==1.18.1", "pyyaml==6.0.3"}  # setuptools comes along all the same


def test_what_is_not_installed_is_named(tmp_path):
    (tmp_path / "lock").write_text(
        "numpy==1.0\nNo.Such_thing==2.0\nruff==1\npyreadline3==3.5 ; sys_platform == 'win32'\n"
    )
    assert missing(tmp_path / "lock") == ["no-such-thing"]


def test_wheels_are_divided_by_size(tmp_path):
    for name, size in (("a", 900), ("b", 500), ("c", 400), ("d", 100)):
        (tmp_path / f"{name}.whl").write_bytes(b"0" * size)
    parts = split(tmp_path, 1000)
    assert [[path.stem for path in part] for part in parts] == [["a", "d"], ["b", "c"]]
    with pytest.raises(SystemExit, match=r"a.whl: .* alone"):
        split(tmp_path, 800)


@pytest.mark.parametrize("iterations", [4, 12, 60, 1000, 5000])
def test_a_schedule_of_another_length_is_valid(iterations):
    protocol = load_protocol("blood_cells_gpu", {}, "test")
    values = scaled(protocol.schedule, iterations)
    changed = load_protocol("blood_cells_gpu", {"schedule": values}, "test").schedule
    assert changed.iterations == iterations
    if iterations == protocol.schedule.iterations:
        assert changed == protocol.schedule


def test_the_study_has_the_four_detectors_in_both_frameworks(tmp_path):
    write_study(tmp_path / "gpu_run.yaml", "blood_cells_gpu", 200, [3], "shapes", 1)
    study = load_study(str(tmp_path / "gpu_run.yaml"))
    assert {planned.run.variant.name for planned in study.runs} == {
        "faster_rcnn", "cascade_rcnn", "fscascade", "decoupled_rcnn",
    }  # fmt: skip
    assert len(study.runs) == 8
    assert (study.file.execution.gpus, study.dataset.name, study.protocol.schedule.steps) == (1, "shapes", (150, 180))
    write_study(tmp_path / "trial.yaml", "tiny", 12, None, "few_shapes", 0)
    assert load_study(str(tmp_path / "trial.yaml")).dataset.data.train_images == 24


def test_proposals_are_compared_whatever_their_order():
    one = torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 20], [30, 30, 40, 40]])
    other = one[[1, 0]] + 0.001
    compared = proposals_compared([one], [other])
    assert (compared["number"], compared["number_on_device"], compared["without_partner"]) == (3, 2, 1)
    assert compared["pixels"] == pytest.approx(0.001, rel=0.1)


COUNTING = "import time\nfor i in range(1, 100):\n    print(f'iteration {i}/99', flush=True)\n    time.sleep(0.01)\n"


def test_a_process_is_killed_in_the_middle(tmp_path):
    late = tmp_path / "late"
    command = [sys.executable, "-c", f"{COUNTING}open({str(late)!r}, 'w')"]
    assert killed(command, at=5) == 5
    assert not late.exists()
    with pytest.raises(RuntimeError, match="ended by itself with exit code 0 at iteration 99"):
        killed(command, at=200)
    assert late.exists()


def is_there(process: int) -> bool:
    """Whether a process has not ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


DEAF = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(600)
"""


def test_what_stops_a_call_stops_its_training(tmp_path):
    """Its group gets what `timeout` sends in run.sh; this training does not answer the first signal."""
    number = tmp_path / "number"
    call = f"from single_training import killed; killed({[sys.executable, '-c', DEAF, str(number)]!r}, at=5)"
    paths = os.pathsep.join([str(SCRIPT.parent), str(PROJECT)])
    environment = os.environ | {"PYTHONPATH": paths}
    calling = subprocess.Popen([sys.executable, "-c", call], env=environment, start_new_session=True)
    while not (number.exists() and number.read_text()):
        assert calling.poll() is None
        time.sleep(0.1)
    for stop in (signal.SIGINT, signal.SIGKILL):
        os.killpg(calling.pid, stop)
    calling.wait()
    time.sleep(0.5)
    assert not is_there(int(number.read_text()))


def test_a_training_begins_anew(tmp_path):
    run = load_study("tiny").runs[0].run
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    command = training_command(run, tmp_path / "run", tmp_path / "data", "--gpus", "1")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.yaml"]
    assert command[3:5] == [run.framework, "train"]


@pytest.mark.parametrize(("end", "code"), [("kill -KILL $$", 137), ("exit 5", 5)], ids=["killed", "failed"])
def test_a_step_that_is_killed_is_not_out_of_time(end, code, tmp_path):
    python = tmp_path / "python"
    lines = ["#!/bin/sh", f"case $1 in *device_parity.py) {end} ;; esac", f'exec {sys.executable} "$@"']
    python.write_text("\n".join(lines) + "\n")
    python.chmod(0o755)
    done = run_script(
        *("--step", "parity", "--device", "cpu", "--python", str(python)),
        *("--work", str(tmp_path / "work"), "--minutes", "10"),
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "time is up" not in done.stdout


def test_use_of_the_gpu_is_read_from_samples(tmp_path):
    path = tmp_path / "gpu.csv"
    path.write_text(
        "2026/11/21 13:00:00.500, 40, 1000, 300.5, 1980\n2026/11/21 13:00:01.000, 60, 3000, [N/A], 1980\n2026/11/21 13"
    )
    found = use_of_gpu(samples(path))
    assert found == {"samples": 2, "use_mean": 50.0, "power_mean": 300.5, "clock_mean": 1980.0, "memory_max": 3000.0}
    assert use_of_gpu(samples(tmp_path / "none.csv")) is None


def test_the_summary_says_what_was_not_done(tmp_path):
    """Made-up tables of a study; the other steps are missing, and no GPU result is claimed."""
    tables = tmp_path / "work" / "results" / "studies" / "gpu_run"
    tables.mkdir(parents=True)
    ap = {"label": ["A|B"], "framework": ["mmdet"], "seed": [0], "test_stage": ["(1,1)"], "headline": [True]}
    ap |= {name: [0.25] for name in ("AP", *(f"AP{iou}" for iou in range(50, 100, 5)))}
    pd.DataFrame(ap).to_csv(tables / "ap.csv", index=False)
    gap = {"label": "A|B", "framework": "mmdet", "gap": "stage 3 - baseline", "quantity": "AP50", "seeds": 1}
    gap |= {"value": 0.011, "low": -0.022, "high": 0.033}
    pd.DataFrame([gap, gap | {"gap": None}]).to_csv(tables / "intervals.csv", index=False)
    write_json(tmp_path / "work" / "steps" / "train.json", {"jobs": 3})
    done = run_script(
        *("--step", "summary", "--device", "cpu", "--python", sys.executable),
        *("--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["kind"] == "trial without a GPU"
    assert found["not_done"] == ["parity", "throughput", "resume"]
    assert [one["gap"] for one in found["gaps"]] == ["stage 3 - baseline"]
    assert found["study"]["trainings_at_a_time"] == 3
    assert found["machine"]["arithmetic"]["tf32_convolutions"] is False
    assert found["machine"]["versions"]["torch"] == torch.__version__
    page = (tmp_path / "out" / "summary.md").read_text()
    assert "no figure here says anything about a GPU" in page
    assert "| A\\|B | mmdet | stage 3 - baseline | - | +1.1 [-2.2, +3.3] | - |" in page
    assert Path(tmp_path / "out" / "tables-and-logs.zip").exists()
