"""What the runs among the results tell of time and size: seconds of one device an image, and megabytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cascadebench.core.errors import InputError
from cascadebench.core.files import canonical_json, read_object
from cascadebench.results.layout import ResultsFolder, RunFolder
from cascadebench.study.run import Run, read_run

Device = Literal["GPU", "CPU"]


@dataclass(frozen=True)
class Measurement:
    """What a run among the results tells of its detector: seconds of one device per image, and its folder's size."""

    run: str
    device: Device | None
    training: float | None
    prediction: float | None
    megabytes: float | None
    cost: Mapping[str, Any] | None


def cost_identity(run: Run) -> str:
    """What decides the time of an image and the size of a checkpoint; runs with equal texts cost the same."""
    identity = run.identity()
    model = {key: identity["protocol"][key] for key in ("input", "neck", "rpn", "heads", "backbone")}
    variant = {key: identity["variant"][key] for key in ("name", "options")}
    categories = len(run.dataset.categories)
    return canonical_json([run.framework, variant, identity["backbone"], model, categories])


def measurements(results: ResultsFolder, wanted: set[str]) -> dict[str, list[Measurement]]:
    """What the runs among the results tell, by those identities that are wanted, in the order of the runs' names."""
    measured: dict[str, list[Measurement]] = {}
    for folder in results.runs():
        try:
            run = read_run(folder.run)
        except InputError:
            continue  # of another version of this project; it tells nothing
        if cost_identity(run) in wanted:
            measured.setdefault(cost_identity(run), []).append(_measure(run, folder))
    return measured


def _measure(run: Run, folder: RunFolder) -> Measurement:
    """Read what a run's files tell of time and size."""
    paths = (folder.trained, folder.predicted, folder.cost)
    trained, predicted, cost = (read_object(path) if path.exists() else None for path in paths)
    training = prediction = None
    if trained and trained.get("seconds_per_iteration") and not run.variant.weights_from:
        units = _units(trained["device"], trained["processes"])
        training = trained["seconds_per_iteration"] * units / run.protocol.schedule.batch_size
    if predicted:
        prediction = predicted["seconds_per_image"] * _units(predicted["device"], 1)
    device = (trained or predicted or {}).get("device")
    return Measurement(
        run=run.id,
        device=None if device is None else "CPU" if device.startswith("CPU") else "GPU",
        training=training,
        prediction=prediction,
        megabytes=_megabytes(folder.path) if folder.ap.exists() else None,
        cost=cost,
    )


def _units(device: str, processes: int) -> int:
    """Number of GPUs, or of CPU threads, that worked at the same time: "CPU, 4 thread(s)" in each process has four."""
    return processes * int(device.split()[1]) if device.startswith("CPU") else processes


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
