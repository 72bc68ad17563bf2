"""A small study on a Slurm of its own, with faults on the way: ``make test-cluster``, no part of ``make test``.

Each of the four trainings meets one fault after its first checkpoint. In the end the detections of each must be, byte
for byte, those of the same study that nothing disturbed. A fifth training is told of its time limit and writes the only
checkpoint that it resumes from; a sixth fails for a reason of its own.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from local_slurm import LocalSlurm, missing, wait_until
from small_studies import of_iterations, small_study, snakemake

from cascadebench.core.configuration import PROJECT, read_yaml
from cascadebench.core.files import read_json
from cascadebench.study.study import Study

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no Slurm here: {missing()}")

MEMORY_MB = 2500
ITERATIONS = 60
MOST_MINUTES = 40
"""After which a study counts as stuck."""
HOOK = Path(__file__).parent / "fault_hook"
PROFILE = PROJECT / "workflows" / "profiles" / "slurm"


def write_study(folder: Path, name: str, **changes) -> Study:
    """Write the Faster R-CNN baseline in both frameworks and with two seeds, on few images."""
    study = {
        "variants": [{"variant": "faster_rcnn"}],
        "seeds": [0, 1],
        "protocol_override": of_iterations(ITERATIONS, 50),
        "execution": {"checkpoint_interval": 10, "memory_mb": MEMORY_MB, "train_minutes": 20, "diagnostics": False},
    }
    return small_study(folder, name, **study | changes)


def on_slurm(folder: Path, name: str, *targets: str) -> list[str]:
    """Snakemake's command line with the Slurm profile, its account and partition replaced and its waits shortened."""
    replaced = ["--default-resources", "slurm_partition=work", "mem_mb=2000", "runtime=20"]
    quick = ["--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "5"]
    # Without an empty workflow profile the one for a machine on its own would be loaded too.
    profiles = ["--profile", str(PROFILE), "--workflow-profile", "none"]
    begin = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile"), "--directory", str(folder)]
    begin += ["--config", f"study={folder / f'{name}.yaml'}"]
    return [*begin, *profiles, *replaced, "--slurm-status-command", "squeue", *quick, *targets]


def run_on_slurm(
    slurm: LocalSlurm, folder: Path, name: str, *targets: str, inject: Callable[[], None] = lambda: None
) -> tuple[int, str]:
    """Run a study of a folder on Slurm, calling `inject` every second; returns the exit code and what was printed."""
    path = os.pathsep.join([str(HOOK), str(PROJECT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = slurm.environment | {"PYTHONPATH": path, "FAULT_MEMORY_MB": str(MEMORY_MB)}
    log, end = folder / "snakemake.log", time.monotonic() + 60 * MOST_MINUTES
    with log.open("wb") as output:
        running = subprocess.Popen(
            on_slurm(folder, name, *targets), cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while running.poll() is None:
                if time.monotonic() > end:
                    raise TimeoutError(f"{name}: not done within {MOST_MINUTES} minutes: {log.read_text()[-6000:]}")
                inject()
                time.sleep(1)
        finally:
            running.terminate()
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
    return running.returncode, log.read_text()


def status_of(folder: Path, study: Study) -> pd.DataFrame:
    """Read the study's status.csv, by run."""
    return pd.read_csv(folder / "results" / "studies" / study.name / "status.csv").set_index("run")


def digest(folder: Path, run: str, name: str) -> str:
    """Hash of a file of a run."""
    return hashlib.sha256((folder / "results" / "runs" / run / name).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[LocalSlurm]:
    """Start a Slurm of one node."""
    cluster = LocalSlurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Faults:
    """What befalls the trainings of a study, one fault each."""

    def __init__(self, slurm: LocalSlurm, folder: Path, study: Study) -> None:
        self.slurm, self.folder = slurm, folder
        mine = [self.preempt, self.stop_the_node, self.exceed_time, self.exceed_memory]
        # Seeds of a framework run side by side; frameworks alternate among the faults.
        self.waiting: dict[str, Callable[[str, int], None]] = dict(zip(study.run_ids, mine, strict=True))
        self.injected: dict[str, str] = {}  # by run

    def inject(self) -> None:
        """Let a waiting fault happen to each training that has left a checkpoint and runs."""
        for job in self.slurm.jobs():
            run = job["comment"].removeprefix("rule_train_wildcards_")
            checkpoint = self.folder / "results" / "runs" / run / "checkpoints" / "last.pt"
            if job["state"] == "RUNNING" and run in self.waiting and checkpoint.exists():
                trainings = self.slurm.processes(job["id"], "adapters", "train")
                if trainings:
                    fault = self.waiting.pop(run)
                    self.injected[run] = f"{fault.__doc__.splitlines()[0]} Job {job['id']}"
                    fault(job["id"], trainings[0])

    def outcome(self, run: str) -> str:
        """What Slurm says became of a run's trainings."""
        mine = [job for job in self.slurm.jobs() if job["comment"] == f"rule_train_wildcards_{run}"]
        return ", ".join(f"job {job['id']} {job['state']}, requeued {job['restarts']} times" for job in mine)

    def preempt(self, job: str, training: int) -> None:
        """Preempted: put back into the queue in mid-training."""
        self.slurm.control("requeue", job)

    def stop_the_node(self, job: str, training: int) -> None:
        """Node lost: slurmd and all of its jobs killed, the node back when Slurm has noticed."""
        self.slurm.kill_node()
        wait_until(lambda: self.slurm.node_state().startswith("DOWN"), 120, "the loss of the node")
        self.slurm.start_node()

    def exceed_time(self, job: str, training: int) -> None:
        """Over its time limit: the training stands still until its time is over."""
        os.kill(training, signal.SIGSTOP)
        self.slurm.control("update", f"JobId={job}", "TimeLimit=1")

    def exceed_memory(self, job: str, training: int) -> None:
        """Out of memory: the training takes more than its job has."""
        os.kill(training, signal.SIGUSR2)


@pytest.fixture(scope="module")
def disturbed(slurm, tmp_path_factory) -> tuple[Path, Path, Study, Faults]:
    """Run the study undisturbed on this machine, and with its faults on Slurm."""
    alone, folder = tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("disturbed")
    write_study(alone, "small")
    study = write_study(folder, "small")
    snakemake(alone, cores=2)

    faults = Faults(slurm, folder, study)
    code, printed = run_on_slurm(slurm, folder, "small", inject=faults.inject)
    assert code == 0, printed[-6000:]
    return alone, folder, study, faults


def resumes(folder: Path, run: str) -> int:
    """How often a finished training went on from a checkpoint."""
    return read_json(folder / "results" / "runs" / run / "trained.json")["resumes"]


def test_every_fault_happened_and_every_run_is_done(disturbed, outcomes):
    _, folder, study, faults = disturbed
    for run, fault in faults.injected.items():
        outcomes += [fault, f"  {run}: {faults.outcome(run)}; training resumed {resumes(folder, run)} times"]
    assert not faults.waiting
    assert len(faults.injected) == 4
    status = status_of(folder, study)
    assert list(status.index) == study.run_ids
    assert set(status["state"]) == {"evaluated"}


def test_every_training_resumed(disturbed):
    _, folder, study, _ = disturbed
    for run in study.run_ids:
        assert resumes(folder, run) >= 1, run


@pytest.mark.parametrize("name", ["detections.parquet", "proposals.parquet", "ap.parquet"])
def test_results_are_those_of_the_undisturbed_study(disturbed, name, outcomes):
    alone, folder, study, _ = disturbed
    for run in study.run_ids:
        assert digest(folder, run, name) == digest(alone, run, name), run
    outcomes.append(f"  {name}: the bytes of the undisturbed study, all {len(study.run_ids)} runs")


class NearLimit:
    """Brings the time limit of a study's training so near that Slurm sends its signal."""

    def __init__(self, slurm: LocalSlurm, log: Path) -> None:
        self.slurm, self.log, self.job = slurm, log, ""

    def inject(self) -> None:
        """Let it happen once, after the first steps."""
        if self.job or not self.log.exists():
            return
        for job in self.slurm.jobs():
            trainings = self.slurm.processes(job["id"], "adapters", "train")
            if job["state"] == "RUNNING" and trainings:
                self.job = job["id"]
                self.send(trainings[0])

    def send(self, training: int) -> None:
        """Wait for Slurm, which looks at its jobs twice a minute; so short a training is held meanwhile."""
        os.kill(training, signal.SIGSTOP)
        try:
            hours, minutes = re.search(r"RunTime=(\d+):(\d+):", self.slurm.control("show", "job", self.job)).groups()
            self.slurm.control("update", f"JobId={self.job}", f"TimeLimit={60 * int(hours) + int(minutes) + 4}")
            # Less than the three minutes that are left at least: no signal that comes with the limit is waited for.
            wait_until(lambda: not is_held(training), 150, "the signal before the time limit")
        finally:
            with suppress(ProcessLookupError):
                os.kill(training, signal.SIGCONT)


def is_held(process: int) -> bool:
    """Whether a process stands still, and no SIGTERM waits for it; Slurm may have let it go on with the signal."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    masks = re.findall(r"^(?:SigPnd|ShdPnd):\s*(\w+)$", status, re.MULTILINE)
    return "State:\tT" in status and not any(int(mask, 16) >> signal.SIGTERM - 1 & 1 for mask in masks)


def test_the_signal_before_the_time_limit_saves_what_was_trained(slurm, disturbed, tmp_path, outcomes):
    alone = disturbed[0]
    execution = {"checkpoint_interval": 10 * ITERATIONS, "memory_mb": MEMORY_MB, "train_minutes": 20}
    study = write_study(tmp_path, "limited", frameworks=["detectron2"], seeds=[0], execution=execution)
    (run,) = study.run_ids
    folder = tmp_path / "results" / "runs" / run
    limit = NearLimit(slurm, folder / "train_log.jsonl")
    code, printed = run_on_slurm(
        slurm, tmp_path, "limited", str(folder.relative_to(tmp_path) / "trained.json"), inject=limit.inject
    )
    assert code == 0, printed[-6000:]
    stopped = int(re.search(r"stopped by SIGTERM at iteration (\d+)", printed)[1])
    assert 0 < stopped < ITERATIONS
    attempts = (folder / "checkpoints" / "attempts.jsonl").read_text().splitlines()
    assert [json.loads(line)["start"] for line in attempts] == [0, stopped]
    assert digest(tmp_path, run, "checkpoints/last.pt") == digest(alone, run, "checkpoints/last.pt")
    outcomes.append(f"Near its time limit: told by Slurm, without a checkpoint before. Job {limit.job}")
    outcomes.append(f"  {run}: stopped by SIGTERM at iteration {stopped} and resumed there; the undisturbed checkpoint")


def test_an_error_of_its_own_is_not_retried_forever(slurm, tmp_path, outcomes):
    schedule = {"iterations": 4, "batch_size": 2, "base_lr": 1e30, "warmup_iterations": 0, "steps": []}
    override = {"schedule": schedule, "optimizer": {"gradient_clip_norm": None}}
    study = write_study(tmp_path, "diverging", frameworks=["mmdet"], seeds=[0], protocol_override=override)
    code, printed = run_on_slurm(slurm, tmp_path, "diverging")
    assert code == 1, printed[-6000:]
    (run,) = study.run_ids
    attempts = [job["state"] for job in slurm.jobs() if job["comment"] == f"rule_train_wildcards_{run}"]
    assert attempts == ["FAILED"] * (1 + read_yaml(PROFILE / "config.yaml")["retries"])
    row = status_of(tmp_path, study).loc[run]
    assert row["state"] == "failed"
    assert "the loss is not finite" in row["detail"]
    outcomes.append("A training that diverges.")
    told = f"status.csv: {row['state']}, {row['detail'][:60]}"
    outcomes.append(f"  {run}: {len(attempts)} attempts, then given up; {told}")
