"""What portable arithmetic costs: the embedded study's Faster R-CNN trained with it, and with native arithmetic.

``python -m benchmarks.arithmetic`` trains in both kinds in turn, in processes of their own, and prints medians
over the trainings of the median seconds of a step, and their ratio.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from cascadebench.core.files import read_json
from cascadebench.datasets.prepare import prepare
from cascadebench.study.run import Run
from cascadebench.study_loading import load_study


def step_seconds(run: Run, folder: Path, data: Path) -> float:
    """Train anew and return the median time of a step."""
    run.write(folder / "run.yaml")
    paths = ["--run", str(folder / "run.yaml"), "--out", str(folder), "--data", str(data)]
    subprocess.run(
        [sys.executable, "-m", "adapters", run.framework, "train", *paths], check=True, stdout=subprocess.DEVNULL
    )
    return read_json(folder / "trained.json")["seconds_per_iteration"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        runs = {
            planned.run.framework: planned.run
            for planned in load_study("tiny").runs
            if planned.run.variant.name == "faster_rcnn"
        }
        card = next(iter(runs.values())).dataset
        few = card.data.model_copy(update={"train_images": 40, "val_images": 4})
        prepare(card.model_copy(update={"data": few}), Path(place) / "data")
        for framework, run in runs.items():
            seconds = {"native": [], "portable": []}
            for number in range(options.pairs):
                for kind, found in seconds.items():
                    schedule = run.protocol.schedule.model_copy(
                        update={"iterations": options.steps, "warmup_iterations": 0, "steps": ()}
                    )
                    protocol = run.protocol.model_copy(update={"arithmetic": kind, "schedule": schedule})
                    folder = Path(place) / f"{framework}-{kind}-{number}"
                    folder.mkdir()
                    found.append(
                        step_seconds(run.model_copy(update={"protocol": protocol}), folder, Path(place) / "data")
                    )
            native, portable = (median(found) for found in seconds.values())
            print(
                f"{framework}: native {native:.4f} s, portable {portable:.4f} s, ratio {portable / native:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
