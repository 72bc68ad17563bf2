"""Writes the study that run.sh runs: one of the project's, with other iterations, seeds, images or device."""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.append(str(Path(__file__).resolve().parents[1]))

from small_studies import write_few_shapes

from cascadebench.core.configuration import CONFIG, read_yaml
from cascadebench.core.errors import InputError
from cascadebench.study.protocol import Schedule
from cascadebench.study.run import Run
from cascadebench.study_loading import load_study


def scaled(schedule: Schedule, iterations: int) -> dict[str, Any]:
    """Values of a schedule of another length: warm-up and steps at the same shares of it."""
    share = iterations / schedule.iterations
    steps = sorted({min(max(round(step * share), 1), iterations - 1) for step in schedule.steps})
    warmup = min(round(schedule.warmup_iterations * share), (steps[0] if steps else iterations) - 1)
    return {"iterations": iterations, "warmup_iterations": warmup, "steps": steps}


def shortened(run: Run, iterations: int) -> Run:
    """Return a run with a schedule of another length; everything else stays."""
    values = scaled(run.protocol.schedule, iterations)
    schedule = run.protocol.schedule.model_copy(update=values | {"steps": tuple(values["steps"])})
    return run.model_copy(update={"protocol": run.protocol.model_copy(update={"schedule": schedule})})


def write_study(
    path: Path, base: str, iterations: int | None, seeds: list[int] | None, dataset: str | None, gpus: int
) -> None:
    """Write a study to `path`, which gives its name; `dataset` ``few_shapes`` is the embedded one with few images."""
    content = read_yaml(CONFIG / "studies" / f"{base}.yaml") | {"name": path.stem}
    content["execution"] = content["execution"] | {"gpus": gpus}
    if iterations:
        content["protocol_override"] = {"schedule": scaled(load_study(base).protocol.schedule, iterations)}
    if seeds:
        content["seeds"] = seeds
    path.parent.mkdir(parents=True, exist_ok=True)
    if dataset == "few_shapes":
        dataset = write_few_shapes(path.parent.resolve(), 24, 12)
    if dataset:
        content["dataset"] = dataset
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    load_study(str(path))


def main() -> None:
    """Write the study; wrong values end in one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--seeds", help="0,1,2")
    parser.add_argument("--dataset")
    parser.add_argument("--gpus", type=int, required=True)
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")] if arguments.seeds else None
    try:
        write_study(arguments.path, arguments.base, arguments.iterations, seeds, arguments.dataset, arguments.gpus)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
