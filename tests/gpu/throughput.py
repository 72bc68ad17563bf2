"""Trains every detector of a study alone for a few iterations: seconds per iteration, images per second, memory.

Written after each detector, so that a call that is stopped goes on with the next one.
"""

import json
import statistics
import subprocess
from datetime import datetime
from pathlib import Path

from single_training import parse, training_command
from study_for_gpu import shortened

from cascadebench.core.configuration import PROJECT
from cascadebench.core.files import read_json, write_json
from cascadebench.study.run import Run
from cascadebench.study_loading import load_study

WARM_UP = 0.25
"""Share of the iterations that do not count: kernels are loaded and memory is taken in the first ones."""


def measured(run: Run, folder: Path, data: Path, gpus: int) -> dict:
    """Train and read the times of the log."""
    begun = datetime.now()
    # From the beginning: the seconds of a stopped call are none of the last seconds of this one.
    subprocess.run(training_command(run, folder, data, "--gpus", str(gpus)), check=True, cwd=PROJECT)
    trained = read_json(folder / "trained.json")
    lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines][round(WARM_UP * len(lines)) :]
    middle = statistics.median(seconds)
    return {
        "iterations": len(seconds),
        "batch_size": run.protocol.schedule.batch_size,
        "seconds_per_iteration": middle,
        "images_per_second": round(run.protocol.schedule.batch_size / middle, 2),
        "peak_memory_mb": trained["peak_memory_mb"],
        "device": trained["device"],
        "begun": begun.isoformat(timespec="milliseconds"),
        "ended": datetime.now().isoformat(timespec="milliseconds"),
        # What ran in the loop, without the start of the process; the last seconds of the call.
        "loop_seconds": round(sum(line["seconds"] for line in lines), 3),
    }


def main() -> None:
    """Measure the first seed of every detector."""
    arguments = parse(__doc__.splitlines()[0])
    study, path = load_study(arguments.study), arguments.work / "steps" / "throughput.json"
    found = read_json(path) if path.exists() else {}
    data = arguments.work / "results" / "datasets" / study.dataset.name
    for planned in study.runs:
        run = shortened(planned.run, arguments.iterations)
        name = f"{planned.label}, {run.framework}"
        if run.seed != study.file.seeds[0] or found.get(name, {}).get("run") == run.id:
            continue
        folder = arguments.work / "throughput" / run.id
        found[name] = {"run": run.id} | measured(run, folder, data, arguments.gpus)
        write_json(path, found)
        print(name, found[name]["seconds_per_iteration"], "s/iteration", flush=True)


if __name__ == "__main__":
    main()
