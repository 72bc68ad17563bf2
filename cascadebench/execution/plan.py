"""``cascadebench plan``: what of a study is done, what is left, and what that will cost, before anything starts.

A figure is measured where a finished run of the same detector on the same kind of device lies among the results, of
whatever study; else it is estimated from the multiply-adds that ``cost.json`` counts, by :data:`RATES`. Each says
which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cascadebench.core.errors import InputError
from cascadebench.core.files import canonical_json, read_json, read_object
from cascadebench.datasets.card import DatasetCard, Synthetic
from cascadebench.results.layout import ResultsFolder, RunFolder
from cascadebench.results.run_state import progress
from cascadebench.study.run import Run, read_run
from cascadebench.study.study import PlannedRun, Study

Device = Literal["GPU", "CPU"]

RATES: Mapping[Device, float] = {"GPU": 3e12, "CPU": 1e10}
"""Assumed multiply-adds a second of one GPU, of one CPU thread; training has three times those of an inference."""
BYTES_PER_PARAMETER = 8
"""Assumed of a checkpoint: a weight and its momentum, four bytes each."""
CHECKPOINTS = 2
"""That stay in a run's folder: the last one and the one before."""
BYTES_PER_DETECTION = 24
"""Assumed of ``detections.parquet``."""
BYTES_PER_ITERATION = 1000
"""Assumed of the log and of TensorBoard's."""
UNKNOWN = "unknown: `snakemake inspections` counts what an estimate needs"


@dataclass(frozen=True)
class Measurement:
    """What a run among the results tells of its detector: seconds of one device per image, and its folder's size."""

    run: str
    device: Device | None
    training: float | None
    prediction: float | None
    megabytes: float | None
    cost: Mapping[str, Any] | None


@dataclass(frozen=True)
class Figure:
    """A number and where it comes from: ``measured: ...`` or ``estimated: ...``; None: nothing is known."""

    value: float | None
    source: str


@dataclass(frozen=True)
class RunPlan:
    """What is left of one run."""

    run: str
    label: str
    framework: str
    backbone: str
    seed: int
    state: Literal["done", "resumable", "to do"]
    iterations_done: int
    """Of ``iterations``, as its log says; those after its last checkpoint are trained again."""
    iterations: int
    hours: Figure
    """Hours of GPU, or of CPU threads, that training and prediction still take."""
    megabytes: Figure
    """Size of the run's folder in the end."""


def plan_study(study: Study, results: Path) -> list[RunPlan]:
    """Plan every run of a study.

    Parameters
    ----------
    results : Path
        The folder that holds ``runs/``; it need not exist.
    """
    folders = ResultsFolder(results)
    identities = [cost_identity(planned.run) for planned in study.runs]
    measured = measurements(folders, set(identities))
    images = image_count(study.dataset, results)
    return [
        _plan(planned, device_of(study), folders.run(planned.run.id), measured.get(identity, []), images)
        for planned, identity in zip(study.runs, identities, strict=True)
    ]


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
    size = sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file()) / 1e6
    return Measurement(
        run=run.id,
        device=None if device is None else "CPU" if device.startswith("CPU") else "GPU",
        training=training,
        prediction=prediction,
        megabytes=size if folder.ap.exists() else None,
        cost=cost,
    )


def _units(device: str, processes: int) -> int:
    """Number of GPUs, or of CPU threads, that worked at the same time: "CPU, 4 thread(s)" in each process has four."""
    return processes * int(device.split()[1]) if device.startswith("CPU") else processes


def device_of(study: Study) -> Device:
    """What a study trains on."""
    return "GPU" if study.file.execution.gpus else "CPU"


def image_count(dataset: DatasetCard, results: Path, split: Literal["train", "val"] = "val") -> int | None:
    """Number of the dataset's images for validation or training; None while nobody has counted them."""
    lock = ResultsFolder(results).dataset(dataset.name).lock
    if lock.exists():
        return read_json(lock)["splits"].get(split, {}).get("images")
    if isinstance(dataset.data, Synthetic):
        return getattr(dataset.data, f"{split}_images")
    parts = getattr(dataset.data, split, None)
    counts = [getattr(part, "image_count", None) for part in (parts if isinstance(parts, tuple) else (parts,))]
    return None if None in counts else sum(counts)


def _plan(
    planned: PlannedRun, device: Device, folder: RunFolder, measured: Sequence[Measurement], images: int | None
) -> RunPlan:
    """Plan one run from what is measured of its detector."""
    run = planned.run
    iterations = 0 if run.variant.weights_from else run.protocol.schedule.iterations
    state, done = _done(folder, iterations)
    left = (iterations - done) * run.protocol.schedule.batch_size
    to_predict = 0 if folder.predicted.exists() else images
    hours = Figure(0.0, "done") if state == "done" else _hours(left, to_predict, device, measured)
    return RunPlan(
        run=run.id, **asdict(planned.detector), seed=run.seed, state=state, iterations_done=done,
        iterations=iterations, hours=hours, megabytes=_size(run, iterations, images, measured),
    )  # fmt: skip


def _done(folder: RunFolder, iterations: int) -> tuple[Literal["done", "resumable", "to do"], int]:
    """State of a run that trains so many iterations, and how many of them it has trained."""
    reached = progress(folder)
    if reached == "evaluated":
        return "done", iterations
    if reached in ("predicted", "trained"):
        return "resumable", iterations
    if folder.last_checkpoint.exists() and folder.train_log.exists():
        # A line that is being written has no end yet.
        return "resumable", min(folder.train_log.read_bytes().count(b"\n"), iterations)
    return "to do", 0


def _hours(left: int, images: int | None, device: Device, measured: Sequence[Measurement]) -> Figure:
    """Hours of one device for training on so many images and predicting so many."""
    source, training, prediction = "", None, None
    for known in measured:
        if known.device == device and (known.training is not None or not left):
            source, training, prediction = f"measured: {known.run}", known.training, known.prediction
            break
    else:
        flops = next((known.cost["flops"] for known in measured if known.cost), None)
        if flops is None:
            return Figure(None, UNKNOWN)
        source = f"estimated: {_giga(flops)} an image, three times that in training, {_giga(RATES[device])}/s"
        training, prediction = 3 * flops / RATES[device], flops / RATES[device]
    if images is None or (prediction is None and images):
        source += "; without prediction"
        images, prediction = 0, 0.0
    return Figure((left * (training or 0.0) + images * (prediction or 0.0)) / 3600, source)


def _giga(multiply_adds: float) -> str:
    return f"{multiply_adds / 1e9:,.3g} G multiply-adds" if multiply_adds < 1e12 else f"{multiply_adds / 1e12:.3g} T"


def _size(run: Run, iterations: int, images: int | None, measured: Sequence[Measurement]) -> Figure:
    """Size of a run's folder when it is done."""
    of_itself = [known for known in measured if known.run == run.id]
    for known in (*of_itself, *measured):
        if known.megabytes is not None:
            return Figure(known.megabytes, f"measured: {known.run}")
    parameters = next((known.cost["parameters"] for known in measured if known.cost), None)
    if parameters is None:
        return Figure(None, UNKNOWN)
    detections = (images or 0) * run.protocol.inference.max_detections * len(run.variant.test_stages)
    checkpoints = CHECKPOINTS * parameters * BYTES_PER_PARAMETER if iterations else 0
    total = checkpoints + iterations * BYTES_PER_ITERATION + detections * BYTES_PER_DETECTION
    words = (
        f"{CHECKPOINTS} checkpoints of {BYTES_PER_PARAMETER} bytes a parameter, {BYTES_PER_DETECTION} a detection, "
        "1 kB an iteration"
    )
    return Figure(total / 1e6, f"estimated: {words}" + ("" if images else "; without detections"))
