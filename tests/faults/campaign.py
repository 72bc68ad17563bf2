"""Kill the commands of a very small study at random moments, start them again, and compare every byte at the end.

    python tests/faults/campaign.py --kills 60 --seed 0 --out build/faults.json

Each command runs in a process of its own that a server forks: the frameworks are imported once, and what is killed is
the command's own code. A command is started again until it ends well, as Snakemake does with ``--retries``. Rounds go
on until the number of kills is reached; each fills a folder of its own and is compared with an undisturbed study. A
kill is a process that a signal ended; one that came to its end all the same is counted apart, as a signal too late.

Fields of time, memory and attempts are left out of the comparison (:data:`CIRCUMSTANCES`); before the tables are made,
they are set to those of the undisturbed study, so that tables and report are compared whole.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parents[1]))

from small_studies import of_iterations, small_study

from adapters.portable_arithmetic import PORTABLE
from cascadebench.study.study import Study

_OF_MAKING = ("command", "started", "finished", "peak_memory_mb")
CIRCUMSTANCES = {
    "trained.json": (
        *_OF_MAKING,
        "began",
        "resumes",
        "notes",
        "seconds_per_iteration",
        "wall_seconds",
        "images_per_step",
        "train_log.jsonl",
    ),
    "predicted.json": (*_OF_MAKING, "seconds_per_image"),
    "train_log.jsonl": ("seconds",),
}
"""Keys by file that say how long and with how much memory something was made; ``train_log.jsonl`` as a key is its
checksum among the ``files``."""
NOT_DECLARED = ("tensorboard", "attempts.jsonl", "previous.pt", ".lease", "failed.json")
"""Parts of paths that are no declared output."""
WEIGHTS = {
    "train": 20, "predict": 9, "evaluate-run": 4, "diagnose-run": 4,
    "aggregate": 3, "intervals": 3, "examples": 3, "report": 3,
}  # fmt: skip
"""Stages that are killed, and their weights when the moments are drawn."""
ANSWERED = ("train", "predict")
"""Stages that answer SIGTERM: they end with 128 and the signal's number, as docs/resume-and-faults.md says."""
MOST_KILLS_OF_A_STEP, MOST_KILLS_OF_A_ROUND = 6, 40


@dataclass(frozen=True)
class Step:
    """A command of the study."""

    stage: str
    argv: tuple[str, ...]
    run: str = ""


@dataclass
class Outcome:
    """What happened in a campaign."""

    kills: Counter = field(default_factory=Counter)
    """Processes that a signal ended, by stage, signal and exit code; a negative one is the signal's own."""
    too_late: int = 0
    """Signals to processes that came to their end all the same."""
    torn: int = 0
    attempts: int = 0
    rounds: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Kills in all."""
        return sum(self.kills.values())

    def count(self, stage: str, number: signal.Signals, code: int) -> bool:
        """Count how a process ended that a signal was meant for; returns whether it was killed.

        Raises
        ------
        RuntimeError
            If the exit code is none that the signal may lead to.
        """
        self.attempts += 1
        if code == 0:
            self.too_late += 1
            return False
        # Before a stage watches for signals, and after, the system ends it.
        allowed = {-number} | ({128 + number} if number == signal.SIGTERM and stage in ANSWERED else set())
        if code not in allowed:
            raise RuntimeError(f"{stage} ended with {code} after {number.name}; allowed: {sorted(allowed)}")
        self.kills[stage, number.name, code] += 1
        return True


def steps_of(study: Study, file: Path) -> tuple[list[Step], list[Step], list[Step]]:
    """Commands before any training, of every run, and over all runs."""
    data, name = "results/datasets/few_shapes", str(file)
    first = [Step("prepare", ("cascadebench", "prepare", study.file.dataset, "--out", data))]
    each = []
    for run in (planned.run for planned in study.runs):
        folder = f"results/runs/{run.id}"
        first.append(Step("freeze", ("cascadebench", "freeze", name, "--run", run.id, "--out", f"{folder}/run.yaml")))
        common = ("--run", f"{folder}/run.yaml", "--out", folder, "--data", data)
        first.append(Step("inspect", ("adapters", run.framework, "inspect", *common)))
        every = ("--checkpoint-interval", "2", "--log-interval", "1")
        each.append(Step("train", ("adapters", run.framework, "train", *common, *every), run.id))
        each.append(Step("predict", ("adapters", run.framework, "predict", *common), run.id))
        each.append(Step("evaluate-run", ("cascadebench", "evaluate-run", folder, "--data", data), run.id))
        each.append(Step("diagnose-run", ("cascadebench", "diagnose-run", folder, "--data", data), run.id))
    first.append(Step("audit", ("cascadebench", "audit", name)))
    last = [Step("aggregate", ("cascadebench", "aggregate", name))]
    last.append(Step("intervals", ("cascadebench", "intervals", name, "--resamples", "100")))
    # So short a training detects nothing with much of a score.
    last.append(Step("examples", ("cascadebench", "examples", name, "--score", "0.05")))
    last.append(Step("report", ("cascadebench", "report", name)))
    return first, each, last


def call(argv: tuple[str, ...]) -> int:
    """Run a command as ``python -m`` would; returns its exit code."""
    import adapters.command_line
    import cascadebench.cli.main

    sys.argv = list(argv)
    if argv[0] == "adapters":
        return adapters.command_line.main(list(argv[1:]))
    try:
        cascadebench.cli.main.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def start(step: Step, folder: Path) -> int:
    """Fork a process that runs a command in a folder; returns its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.chdir(folder)
        with (folder / "log.txt").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        code = call(step.argv)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(step: Step, folder: Path) -> float:
    """Run a command to its end; returns the seconds that it took, and raises RuntimeError if it fails."""
    began = time.monotonic()
    _, status = os.waitpid(start(step, folder), 0)
    if os.waitstatus_to_exitcode(status):
        end = (folder / "log.txt").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{folder}: {' '.join(step.argv)} ended with {os.waitstatus_to_exitcode(status)}:\n{end}")
    return time.monotonic() - began


def disturb(step: Step, folder: Path, delay: float, number: signal.Signals) -> int:
    """Start a command and send it a signal after a while, if it runs still; returns its exit code.

    A negative code is the signal that ended it.
    """
    child = start(step, folder)
    until = time.monotonic() + delay
    while time.monotonic() < until:
        time.sleep(0.01)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def tear(checkpoint: Path, chance: random.Random) -> bool:
    """Damage a checkpoint as a failing disk does: cut it, or change a byte; returns whether there was one."""
    if not checkpoint.exists():
        return False
    content = bytearray(checkpoint.read_bytes())
    place = chance.randrange(len(content))
    if chance.random() < 0.5:
        content = content[:place]
    else:
        content[place] ^= 1 + chance.randrange(255)
    checkpoint.write_bytes(content)
    return True


def without_circumstances(path: Path) -> bytes:
    """Content of a file without what says how it was made."""
    keys = CIRCUMSTANCES.get(path.name)
    if keys is None:
        return path.read_bytes()
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    kept = []
    for value in map(json.loads, lines):
        files = {"files": {name: one for name, one in value.get("files", {}).items() if name not in keys}}
        kept.append({key: one for key, one in (value | files).items() if key not in keys})
    return json.dumps(kept).encode()


def declared(folder: Path) -> dict[str, Path]:
    """Every output under ``results`` and ``reports`` by its relative path."""
    paths = [path for part in ("results", "reports") for path in (folder / part).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): path
        for path in sorted(paths)
        if not set(path.relative_to(folder).parts) & set(NOT_DECLARED)
    }


def differences(whole: Path, disturbed: Path, read: Callable[[Path], bytes]) -> list[str]:
    """Files that only one of two folders has, or that differ."""
    first, second = declared(whole), declared(disturbed)
    found = [f"{name}: only in one" for name in sorted(first.keys() ^ second.keys())]
    both = sorted(first.keys() & second.keys())
    return found + [f"{name}: differs" for name in both if read(first[name]) != read(second[name])]


def equal_circumstances(whole: Path, disturbed: Path) -> None:
    """Copy the files that hold circumstances; they were compared without these before."""
    for name, path in declared(disturbed).items():
        if path.name in CIRCUMSTANCES:
            shutil.copyfile(whole / name, path)


class Campaign:
    """Rounds of a study with kills.

    Parameters
    ----------
    folder : Path
        Where the undisturbed study and every round get a folder.
    """

    def __init__(self, folder: Path, variants: list[str], iterations: int, seed: int) -> None:
        self.folder, self.chance, self.outcome = folder, random.Random(seed), Outcome()
        chosen = [{"variant": name} for name in variants]
        study = small_study(folder, variants=chosen, protocol_override=of_iterations(iterations, 4))
        self.first, self.each, self.last = steps_of(study, folder / "small.yaml")
        self.whole = folder / "whole"
        self.whole.mkdir()
        os.chdir(self.whole)
        for step in self.first:  # in this process: all that the commands import is then there before the forks
            if call(step.argv):
                raise RuntimeError(f"{' '.join(step.argv)} failed")
        self.seconds = {}
        shutil.copytree(self.whole, folder / "prepared")
        for step in [*self.each, *self.last]:
            self.seconds[step] = finish(step, self.whole)

    def round(self, kills: int) -> None:
        """Run the study once with up to so many kills, and compare."""
        self.outcome.rounds += 1
        folder = self.folder / f"round{self.outcome.rounds}"
        shutil.copytree(self.folder / "prepared", folder)
        planned = self._planned(kills)
        for step in self.each:
            self._until_done(step, folder, planned[step])
        found = differences(self.whole, folder, without_circumstances)
        found = [one for one in found if not one.startswith(("results/studies/", "reports/"))]
        equal_circumstances(self.whole, folder)
        for step in self.last:
            self._until_done(step, folder, planned[step])
        found += [one for one in differences(self.whole, folder, Path.read_bytes) if one not in found]
        self.outcome.differences += [f"{folder.name}: {one}" for one in found]
        if not found:
            shutil.rmtree(folder)

    def _planned(self, kills: int) -> Counter:
        """How often each step is to be killed."""
        by_stage = {stage: [step for step in self.seconds if step.stage == stage] for stage in WEIGHTS}
        planned: Counter = Counter()
        for stage in self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=kills):
            step = self.chance.choice(by_stage[stage])
            planned[step] += planned[step] < MOST_KILLS_OF_A_STEP
        return planned

    def _until_done(self, step: Step, folder: Path, kills: int) -> None:
        """Kill a step so often, each time at another moment, then let it end."""
        for _ in range(kills):
            number = self.chance.choice((signal.SIGKILL, signal.SIGTERM))
            code = disturb(step, folder, self.chance.uniform(0, self.seconds[step]), number)
            if not self.outcome.count(step.stage, number, code):
                continue  # what it has made is made once more
            checkpoint = folder / "results" / "runs" / step.run / "checkpoints" / "last.pt"
            if step.stage == "train" and number == signal.SIGKILL and self.chance.random() < 0.6:
                self.outcome.torn += tear(checkpoint, self.chance)
        self.outcome.attempts += 1
        finish(step, folder)


def summary(outcome: Outcome, seconds: float) -> dict[str, Any]:
    """What a campaign gave, for a file."""
    rows = [{"stage": s, "signal": n, "exit_code": c, "kills": k} for (s, n, c), k in sorted(outcome.kills.items())]
    return {
        "kills": outcome.number,
        "too_late": outcome.too_late,
        "torn_checkpoints": outcome.torn,
        "rounds": outcome.rounds,
        "processes": outcome.attempts,
        "differences": outcome.differences,
        "seconds": round(seconds),
        "by_stage": rows,
    }


def show(result: dict[str, Any]) -> None:
    """Print a summary as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "signal", "exit code", "kills"):
        table.add_column(heading)
    for row in result["by_stage"]:
        table.add_row(*(str(row[key]) for key in ("stage", "signal", "exit_code", "kills")))
    console = Console()
    console.print(table)
    console.print(
        f"{result['kills']} kills, {result['too_late']} signals too late and {result['torn_checkpoints']} torn "
        f"checkpoints in {result['rounds']} rounds, {result['processes']} processes, {result['seconds']} s; "
        f"files that differ: {len(result['differences'])}"
    )
    for line in result["differences"]:
        console.print(line)


def main() -> int:
    """Run a campaign; returns 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", nargs="+", default=["faster_rcnn", "cascade_rcnn"])
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--folder", type=Path, required=True, help="empty or new; the rounds run in it")
    parser.add_argument("--out", type=Path, help="summary as JSON; default: summary.json in the folder")
    arguments = parser.parse_args()
    began = time.monotonic()
    folder = arguments.folder.resolve()
    import_frameworks()
    campaign = Campaign(folder, arguments.variants, arguments.iterations, arguments.seed)
    while campaign.outcome.number < arguments.kills and not campaign.outcome.differences:
        campaign.round(min(2 * (arguments.kills - campaign.outcome.number), MOST_KILLS_OF_A_ROUND))
    result = summary(campaign.outcome, time.monotonic() - began)
    out = arguments.out or folder / "summary.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    return 1 if result["differences"] else 0


def import_frameworks() -> None:
    """Import once what every command needs; the processes that are killed are forks of this one."""
    os.environ.update(PORTABLE)  # before torch: the study asks for it, and the forks have this process's
    for name in (
        "adapters.command_line",
        "adapters.detectron2.adapter",
        "adapters.mmdet.adapter",
        "cascadebench.cli.main",
        "cascadebench.diagnostics.run_diagnostics",
        "cascadebench.tables.run_evaluation",
        "cascadebench.tables.study_intervals",
        "cascadebench.evidence.verdict_files",
        "cascadebench.examples.write",
        "cascadebench.report.page",
    ):
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
