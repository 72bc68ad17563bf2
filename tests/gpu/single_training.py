"""A training by itself, outside Snakemake: what throughput.py and kill_and_resume.py begin with."""

import argparse
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from cascadebench.core.configuration import PROJECT
from cascadebench.study.run import Run


def parse(description: str) -> argparse.Namespace:
    """Read the command line that run.sh gives to both."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--study", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--iterations", type=int, required=True)
    return parser.parse_args()


def training_command(run: Run, folder: Path, data: Path, *options: str) -> list[str]:
    """``python -m adapters FRAMEWORK train`` of a run into `folder`, which is emptied: it shall begin anew."""
    shutil.rmtree(folder, ignore_errors=True)
    run.write(folder / "run.yaml")
    paths = ["--run", str(folder / "run.yaml"), "--out", str(folder), "--data", str(data)]
    return [sys.executable, "-m", "adapters", run.framework, "train", *paths, "--workers", "1", *options]


def killed(command: list[str], at: int) -> int:
    """Start a training, kill it (SIGKILL) after an iteration; return the last one that it told of.

    It stays in this process's group, so that what stops the call stops it too; its loaders end when they miss it.

    Raises
    ------
    RuntimeError
        If it ended by itself before.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    reached = 0
    for line in process.stdout:
        found = re.match(r"iteration (\d+)/", line)
        reached = int(found[1]) if found else reached
        if reached >= at:
            process.kill()
            break
    process.stdout.close()
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError(f"the training ended by itself with exit code {process.returncode} at iteration {reached}")
    return reached
