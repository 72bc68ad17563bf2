"""What portable arithmetic costs: the embedded study's Faster R-CNN trained with it, and with native arithmetic.

``python -m benchmarks.arithmetic`` trains in both kinds in turn, in processes of their own, and prints the median
processor time of a step in milliseconds, over all trainings of a kind, and their ratio.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from unittest.mock import patch

from adapters.portable_arithmetic import choose_arithmetic
from cascadebench.datasets.prepare import prepare
from cascadebench.study.run import Run
from cascadebench.study_loading import load_study

UNTIMED_STEPS = 3


def train(words: list[str]) -> None:
    """Train in this process, as ``python -m adapters`` does, and print the processor time of every step."""
    choose_arithmetic(words)
    from adapters.command_line import main
    from adapters.training.training_session import TrainingSession

    after, ends = TrainingSession.after_iteration, []

    def timed(self, *arguments) -> None:
        after(self, *arguments)
        ends.append(time.process_time())

    with patch.object(TrainingSession, "after_iteration", timed):
        code = main(words)
    print("seconds", *(later - sooner for sooner, later in pairwise(ends[UNTIMED_STEPS - 1 :])))
    sys.exit(code)


def step_seconds(run: Run, folder: Path, data: Path) -> list[float]:
    """Processor time of every timed step of a training in a process of its own."""
    folder.mkdir()
    run.write(folder / "run.yaml")
    words = [run.framework, "train", "--run", str(folder / "run.yaml"), "--out", str(folder), "--data", str(data)]
    command = [sys.executable, "-m", "benchmarks.arithmetic", "--words", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(value) for value in done.stdout.splitlines()[-1].split()[1:]]


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--words"]:
        train(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    runs = [planned.run for planned in load_study("tiny").runs if planned.run.variant.name == "faster_rcnn"]
    schedule = {"iterations": options.steps + UNTIMED_STEPS, "warmup_iterations": 0, "steps": ()}
    with tempfile.TemporaryDirectory() as folder:
        place, card = Path(folder), runs[0].dataset
        few = card.data.model_copy(update={"train_images": 40, "val_images": 4})
        prepare(card.model_copy(update={"data": few}), place / "data")
        for run in runs:
            found: dict[str, list[float]] = {"native": [], "portable": []}
            for number in range(options.pairs):
                for kind, seconds in found.items():
                    update = {"arithmetic": kind, "schedule": run.protocol.schedule.model_copy(update=schedule)}
                    asked = run.model_copy(update={"protocol": run.protocol.model_copy(update=update)})
                    seconds += step_seconds(asked, place / f"{run.framework}-{kind}-{number}", place / "data")
            native, portable = (1000 * median(seconds) for seconds in found.values())
            ratio = f"native {native:.0f} ms, portable {portable:.0f} ms, ratio {portable / native:.2f}"
            print(f"{run.framework}: {ratio}", flush=True)


if __name__ == "__main__":
    main()
