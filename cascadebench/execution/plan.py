"""``cascadebench plan``: what of a study is done, what is left, and what that will cost, before anything starts.

A figure is measured where a finished run of the same detector on the same kind of device lies among the results, of
whatever study; else it is estimated from the multiply-adds that ``cost.json`` counts, by :data:`RATES`. Each says
which.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from cascadebench.core.errors import InputError
from cascadebench.core.files import canonical_json, read_json
from cascadebench.datasets.card import DatasetCard, Synthetic
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
class Figure:
    """A number and where it comes from: ``measured: ...`` or ``estimated: ...``; None: nothing is known."""

    value: float | None
    source: str


@dataclass(frozen=True)
class RunPlan:
    """What is left of one run.

    Attributes
    ----------
    state : str
        ``done``, ``resumable``, ``to do``.
    iterations_done : int
        Of ``iterations``, as its log says; those after its last checkpoint are trained again.
    hours : Figure
        Hours of GPU, or of CPU threads, that training and prediction still take.
    megabytes : Figure
        Size of the run's folder in the end.
    """

    run: str
    label: str
    framework: str
    backbone: str
    seed: int
    state: Literal["done", "resumable", "to do"]
    iterations_done: int
    iterations: int
    hours: Figure
    megabytes: Figure


@dataclass(frozen=True)
class Measurement:
    """What a run among the results tells of its detector: seconds of one device per image, and its folder's size."""

    run: str
    device: Device | None
    training: float | None
    prediction: float | None
    megabytes: float | None
    cost: Mapping[str, Any] | None


def plan_study(study: Study, results: Path) -> list[RunPlan]:
    """Plan every run of a study.

    Parameters
    ----------
    results : Path
        The folder that holds ``runs/``; it need not exist.
    """
    wanted = {detector_of(planned.run) for planned in study.runs}
    measured = _measurements(results, wanted)
    images = validation_images(study.dataset, results)
    pairs = [(planned, measured.get(detector_of(planned.run), [])) for planned in study.runs]
    return [_plan(planned, device_of(study), results, own, images) for planned, own in pairs]


def detector_of(run: Run) -> str:
    """What decides the time of an image and the size of a checkpoint: equal texts mean equal detectors."""
    identity = run.identity()
    model = {key: identity["protocol"][key] for key in ("input", "neck", "rpn", "heads", "backbone")}
    variant = {key: identity["variant"][key] for key in ("name", "options")}
    categories = len(run.dataset.categories)
    return canonical_json([run.framework, variant, identity["backbone"], model, categories])


def validation_images(dataset: DatasetCard, results: Path) -> int | None:
    """Number of the dataset's validation images; None while nobody has counted them."""
    lock = results / "datasets" / dataset.name / "lock.json"
    if lock.exists():
        return read_json(lock)["splits"]["val"]["images"]
    if isinstance(dataset.data, Synthetic):
        return dataset.data.val_images
    val = dataset.data.val
    counts = [part.image_count for part in (val if isinstance(val, tuple) else (val,))]
    return None if None in counts else sum(counts)


def _measurements(results: Path, wanted: set[str]) -> dict[str, list[Measurement]]:
    """What the runs among the results tell of these detectors, by detector, in the order of the runs' names."""
    found: dict[str, list[Measurement]] = {}
    for path in sorted((results / "runs").glob("*/run.yaml")):
        try:
            run = read_run(path)
        except InputError:
            continue  # of another version of this project; it tells nothing of these detectors
        if detector_of(run) in wanted:
            found.setdefault(detector_of(run), []).append(_measure(run, path.parent))
    return found


def _measure(run: Run, folder: Path) -> Measurement:
    """Read what a run's files tell of time and size."""
    trained, predicted, cost = (_object(folder / f"{name}.json") for name in ("trained", "predicted", "cost"))
    training = prediction = None
    if trained and trained.get("seconds_per_iteration") and not run.variant.weights_from:
        units = _units(trained["device"], trained["processes"])
        training = trained["seconds_per_iteration"] * units / run.protocol.schedule.batch_size
    if predicted:
        prediction = predicted["seconds_per_image"] * _units(predicted["device"], 1)
    device = (trained or predicted or {}).get("device")
    done = (folder / "ap.parquet").exists()
    return Measurement(
        run=run.id,
        device=None if device is None else "CPU" if device.startswith("CPU") else "GPU",
        training=training,
        prediction=prediction,
        megabytes=_megabytes(folder) if done else None,
        cost=cost,
    )


def _units(device: str, processes: int) -> int:
    """Number of GPUs, or of CPU threads, that worked at the same time: "CPU, 4 thread(s)" in each process has four."""
    return processes * int(device.split()[1]) if device.startswith("CPU") else processes


def _object(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.exists() else None


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _plan(
    planned: PlannedRun, device: Device, results: Path, measured: Sequence[Measurement], images: int | None
) -> RunPlan:
    """Plan one run from what is measured of its detector."""
    run, folder = planned.run, results / "runs" / planned.run.id
    state, done = _progress(run, folder)
    iterations = 0 if run.variant.weights_from else run.protocol.schedule.iterations
    left = (iterations - done) * run.protocol.schedule.batch_size
    to_predict = 0 if (folder / "predicted.json").exists() else images
    hours = Figure(0.0, "done") if state == "done" else _hours(left, to_predict, device, measured)
    about = {"run": run.id, "label": planned.label, "framework": run.framework, "backbone": run.backbone.name}
    return RunPlan(
        **about, seed=run.seed, state=state, iterations_done=done, iterations=iterations, hours=hours,
        megabytes=_size(run, iterations, images, measured),
    )  # fmt: skip


def _progress(run: Run, folder: Path) -> tuple[Literal["done", "resumable", "to do"], int]:
    """State of a run, and how many iterations it has trained."""
    iterations = 0 if run.variant.weights_from else run.protocol.schedule.iterations
    if (folder / "ap.parquet").exists():
        return "done", iterations
    if (folder / "trained.json").exists():
        return "resumable", iterations
    log = folder / "train_log.jsonl"
    if (folder / "checkpoints" / "last.pt").exists() and log.exists():
        # A line that is being written has no end yet.
        return "resumable", min(log.read_bytes().count(b"\n"), iterations)
    return "to do", 0


def _hours(left: int, images: int | None, device: Device, measured: Sequence[Measurement]) -> Figure:
    """Hours of one device for training on so many images and predicting so many."""
    source, training, prediction = "", None, None
    for one in measured:
        if one.device == device and (one.training is not None or not left):
            source, training, prediction = f"measured: {one.run}", one.training, one.prediction
            break
    else:
        flops = next((one.cost["flops"] for one in measured if one.cost), None)
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
    of_itself = [one for one in measured if one.run == run.id]
    for one in (*of_itself, *measured):
        if one.megabytes is not None:
            return Figure(one.megabytes, f"measured: {one.run}")
    parameters = next((one.cost["parameters"] for one in measured if one.cost), None)
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


@dataclass(frozen=True)
class Totals:
    """Sums over a study; `unknown` counts the runs of which nothing is known."""

    runs: Mapping[str, int]
    device: Device
    hours: float
    hours_unknown: int
    megabytes: float
    megabytes_unknown: int


def totals(plans: Sequence[RunPlan], device: Device) -> Totals:
    """Add up what is known."""
    states = ("done", "resumable", "to do")
    return Totals(
        runs={state: sum(one.state == state for one in plans) for state in states},
        device=device,
        hours=_sum(one.hours for one in plans),
        hours_unknown=sum(one.hours.value is None for one in plans),
        megabytes=_sum(one.megabytes for one in plans),
        megabytes_unknown=sum(one.megabytes.value is None for one in plans),
    )


def _sum(figures: Iterable[Figure]) -> float:
    return sum(figure.value for figure in figures if figure.value is not None)


def as_json(study: Study, plans: Sequence[RunPlan]) -> dict[str, Any]:
    """The plan as one object, for programs."""
    return {
        "study": study.name,
        "runs": [asdict(one) for one in plans],
        "totals": asdict(totals(plans, device_of(study))),
        "assumptions": {
            "multiply_adds_per_second": dict(RATES),
            "training_to_inference": 3,
            "checkpoints": CHECKPOINTS,
            "bytes_per_parameter": BYTES_PER_PARAMETER,
            "bytes_per_detection": BYTES_PER_DETECTION,
            "bytes_per_iteration": BYTES_PER_ITERATION,
        },
    }


def device_of(study: Study) -> Device:
    """What a study trains on."""
    return "GPU" if study.file.execution.gpus else "CPU"


def print_plan(study: Study, plans: Sequence[RunPlan], console: Console) -> None:
    """Print runs, what each takes, and the sums."""
    device = device_of(study)
    table = Table(title=study.file.title, title_justify="left", box=None, pad_edge=False)
    for heading in ("variant", "framework", "backbone", "seed", "run", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("iterations", f"{device} hours", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    sources: list[str] = []
    for one in plans:
        for figure in (one.hours, one.megabytes):
            if figure.source not in sources:
                sources.append(figure.source)
        figures = [f"{_shown(figure)} [{sources.index(figure.source) + 1}]" for figure in (one.hours, one.megabytes)]
        done = f"{one.iterations_done:,} of {one.iterations:,}"
        row = [one.label, one.framework, one.backbone, str(one.seed), one.run, one.state, done, *figures]
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table)
    console.print()
    for number, source in enumerate(sources, start=1):
        console.print(f"[{number}] {source}", markup=False, highlight=False)
    found = totals(plans, device)
    states = ", ".join(f"{number} {state}" for state, number in found.runs.items())
    hours = f"{found.hours:,.2f} {device} hours to go" + _and_unknown(found.hours_unknown)
    disk = f"{found.megabytes:,.0f} MB in the end" + _and_unknown(found.megabytes_unknown)
    console.print(f"\n{len(plans)} runs: {states}; {hours}; {disk}", highlight=False)


def _shown(figure: Figure) -> str:
    return "?" if figure.value is None else f"{figure.value:,.2f}"


def _and_unknown(unknown: int) -> str:
    return f" (and {unknown} run(s) of which nothing is known)" if unknown else ""
