"""A training that is killed in the middle and resumed, beside two that are not: does it end where they end?

On a GPU two equal trainings differ in the last bits, and then drift apart, so the difference of the killed one is
stated beside the difference between the two that ran through.
"""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from single_training import killed, parse, training_command
from study_for_gpu import shortened

from cascadebench.core.configuration import PROJECT
from cascadebench.core.files import read_json, write_json
from cascadebench.study.run import Run
from cascadebench.study_loading import load_study

VARIANT = "cascade_rcnn"


def outcome(folder: Path) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """The log and the weights of a training."""
    lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    state = torch.load(folder / "checkpoints" / "last.pt", map_location="cpu", weights_only=True)
    return lines, state["model"]


def difference(first: Path, second: Path) -> dict[str, Any]:
    """How far two trainings of one run are apart."""
    (lines, weights), (other_lines, other_weights) = outcome(first), outcome(second)
    losses = np.array([[line["loss"] for line in log] for log in (lines, other_lines)])
    relative = np.abs(losses[0] - losses[1]) / losses[0]
    last = losses[:, -len(lines) // 4 :].mean(axis=1)
    return {
        "same_images": [line["consumed_sha256"] for line in lines] == [one["consumed_sha256"] for one in other_lines],
        "same_learning_rates": [line["lr"] for line in lines] == [line["lr"] for line in other_lines],
        "loss_first_iteration_relative": float(relative[0]),
        "loss_greatest_relative": float(relative.max()),
        "mean_loss_of_last_quarter_relative": float(abs(last[0] - last[1]) / last[0]),
        "weights_greatest": max(
            float((tensor.float() - other_weights[name].float()).abs().max()) for name, tensor in weights.items()
        ),
    }


def examine(run: Run, work: Path, data: Path, gpus: int, interval: int) -> dict[str, Any]:
    """Train a run three times, one of them in two pieces."""
    folders = {name: work / "resume" / run.framework / name for name in ("through", "again", "killed")}
    options = ("--gpus", str(gpus), "--checkpoint-interval", str(interval), "--log-interval", "1")
    commands = {name: training_command(run, folder, data, *options) for name, folder in folders.items()}
    found: dict[str, Any] = {"run": run.id, "iterations": run.protocol.schedule.iterations, "checkpoints": interval}
    found["killed_after"] = killed(commands["killed"], interval + max(interval // 2, 1))
    for command in commands.values():
        subprocess.run(command, check=True, cwd=PROJECT, stdout=subprocess.DEVNULL)
    trained, lines = read_json(folders["killed"] / "trained.json"), outcome(folders["killed"])[0]
    return found | {
        "resumes": trained["resumes"],
        "final_iteration": lines[-1]["iteration"] + 1,
        "every_iteration_once": [line["iteration"] for line in lines] == list(range(found["iterations"])),
        "killed_to_through": difference(folders["killed"], folders["through"]),
        "again_to_through": difference(folders["again"], folders["through"]),
    }


def main() -> None:
    """Examine one variant in both frameworks, both at a time."""
    arguments = parse(__doc__.splitlines()[0])
    study = load_study(arguments.study)
    data, interval = arguments.work / "results" / "datasets" / study.dataset.name, arguments.iterations // 3
    runs = {
        planned.run.framework: shortened(planned.run, arguments.iterations)
        for planned in study.runs
        if planned.run.variant.name == VARIANT and planned.run.seed == study.file.seeds[0]
    }
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda run: examine(run, arguments.work, data, arguments.gpus, interval), runs.values())
        write_json(arguments.work / "steps" / "resume.json", dict(zip(runs, found, strict=True)))


if __name__ == "__main__":
    main()
