"""``python -m adapters FRAMEWORK inspect|train|predict|predict-with --run run.yaml --out DIR``.

Everything that the adapters have in common: arguments, seeds, devices, files, and what happens when something fails.
"""

import argparse
import importlib
import os
import platform
import resource
import shlex
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from adapters import checkpoint_prediction
from adapters.arithmetic import arithmetic, set_arithmetic
from adapters.checkpoints import read_checkpoint
from adapters.contract import Adapter
from adapters.cost import cost_of
from adapters.diagnosed_prediction import DiagnosedPrediction
from adapters.distributed import is_one_of_several, start_process_group, stop_process_group
from adapters.exclusive import execute, taken
from adapters.prediction_columns import detection_columns, proposal_columns
from adapters.processes import end_with_starter, leave_word, train_in_processes
from adapters.proposal_swaps import GROUND_TRUTH, GivenProposals
from adapters.step_parts import check_division
from adapters.training_session import TrainingSession, seed_everything
from cascadebench.datasets.prepared import ImageRecord, load_split, trainable
from cascadebench.errors import Fault, InputError
from cascadebench.evaluation.detections import write_detections, write_proposals
from cascadebench.failures import forget_failure, note_failure
from cascadebench.files import read_json, sha256_of, write_json
from cascadebench.interruption import Interruption, Stopped
from cascadebench.proposal_swaps import ProposalSource
from cascadebench.provenance import hardware, now, project_state
from cascadebench.run import Run, read_run
from cascadebench.shared_runs import (
    PREDICTION_FILES,
    SHARED_RESULTS,
    TRAINING_FILES,
    digests,
    take_prediction,
    take_training,
)
from cascadebench.study import Execution, check_batch_division
from cascadebench.training_order import training_order
from cascadebench.variant import load_framework_card
from cascadebench.variant_sources import variant_digest


def load_adapter(framework: str) -> Adapter:
    """Import the adapter of a framework; raises InputError if there is none or its framework is not installed."""
    load_framework_card(framework, "framework")
    try:
        return importlib.import_module(f"adapters.{framework}.adapter").ADAPTER
    except ModuleNotFoundError as error:
        raise InputError(f"{framework}: {error}; `cascadebench doctor` says what is missing") from error


def initial_model(adapter: Adapter, run: Run, with_weights: bool) -> nn.Module:
    """Build the model with initial weights from the run's seed, and the backbone's file of weights if wanted."""
    seed_everything(run.seed)
    model = adapter.build_model(run)
    if with_weights and run.backbone.weights:
        adapter.load_backbone_weights(model, run)
    return model


def inspect(adapter: Adapter, run: Run, arguments: argparse.Namespace) -> None:
    """Write ``controls.json`` and ``cost.json``; needs neither images nor weights."""
    built = adapter.build(run)
    controls = [asdict(control) for control in adapter.read_controls(built)]
    write_json(arguments.out / "cost.json", cost_of(adapter, built.model, run))
    write_json(arguments.out / "controls.json", {"run": run.id, "versions": adapter.versions(), "controls": controls})


def train(adapter: Adapter, run: Run, arguments: argparse.Namespace) -> None:
    """Train or resume; write ``trained.json`` last. A run that uses another's weights takes over its manifest."""
    if run.variant.weights_from:
        other = weights_folder(run, arguments.out) / "trained.json"
        if not other.exists():
            raise InputError(f"{other}: no such file; the run whose weights {run.id} uses must be trained first")
        write_json(
            arguments.out / "trained.json", read_json(other) | {"run": run.id, "weights_from": run.variant.weights_from}
        )
        return
    execution = Execution(
        cpu_threads=arguments.threads,
        accumulation=arguments.accumulation,
        loader_workers=arguments.workers,
        checkpoint_interval=arguments.checkpoint_interval,
        checkpoint_minutes=arguments.checkpoint_minutes,
        log_interval=arguments.log_interval,
    )
    records = trainable(load_split(arguments.data, "train", segmentations=run.variant.masks))
    order = training_order(records, run.protocol, run.seed)
    identity = {
        "iterations": run.protocol.schedule.iterations,
        "training_order_sha256": order.digest(),
        "dataset_sha256": read_json(arguments.data / "lock.json")["splits"]["train"]["prepared_sha256"],
    }
    if taken(arguments, run, lambda shared: take_training(shared, run, arguments.out, identity)):
        return
    if arguments.processes > 1 and not is_one_of_several():
        check_batch_division(run, arguments.processes, arguments.accumulation, "execution")
        train_in_processes(arguments.processes, arguments.words, arguments.interruption)
        return
    session = TrainingSession(run, arguments.out, arguments.device, execution, arguments.interruption)
    variant_sha256 = variant_digest(run.variant.name, run.variant.folder)  # now: somebody may edit it meanwhile
    if session.start < session.iterations:
        if session.start:
            print(f"resuming at iteration {session.start}", flush=True)
        model = initial_model(adapter, run, with_weights=session.start == 0).to(arguments.device)
        check_division(run, model, session.world_size, execution.accumulation)
        with arguments.interruption.watched(None):
            try:
                adapter.train(run, model, records, order, session)
            finally:
                session.stop_reading()
    if session.rank == 0:
        summary = session.finish() | {"run": run.id, "checkpoint_sha256": sha256_of(session.checkpoint)} | identity
        summary |= {"variant_sha256": variant_sha256, "files": digests(arguments.out, TRAINING_FILES)}
        write_json(arguments.out / "trained.json", summary | circumstances(adapter, arguments))


def weights_folder(run: Run, out: Path) -> Path:
    """Folder of the run that was trained: its own, or beside it that of the run whose weights it uses."""
    return out.parent / run.variant.weights_from if run.variant.weights_from else out


def trained_model(adapter: Adapter, run: Run, out: Path, device: torch.device) -> nn.Module:
    """Build a run's detector with the weights that its training left; raises InputError if there are none yet."""
    model = initial_model(adapter, run, with_weights=False)
    checkpoint = weights_folder(run, out) / "checkpoints" / "last.pt"
    if not checkpoint.exists():
        raise InputError(f"{checkpoint}: no such file; the run must be trained first")
    manifest = checkpoint.parents[1] / "trained.json"
    if manifest.exists() and read_json(manifest)["checkpoint_sha256"] != sha256_of(checkpoint):
        raise Fault(f"{checkpoint}: damaged: its checksum is not that of trained.json; delete both to train again")
    state = read_checkpoint(checkpoint)
    if state["iteration"] != run.protocol.schedule.iterations:
        raise InputError(
            f"{checkpoint}: trained for {state['iteration']} of {run.protocol.schedule.iterations} iterations"
        )
    model.load_state_dict(state["model"])
    return model.to(device).eval()


def predict(adapter: Adapter, run: Run, arguments: argparse.Namespace) -> None:
    """Detect on the validation images; write detections, proposals, diagnostics, and ``predicted.json`` last."""
    split = load_split(arguments.data, "val")
    model = trained_model(adapter, run, arguments.out, arguments.device)
    identity = {
        "checkpoint_sha256": sha256_of(weights_folder(run, arguments.out) / "checkpoints" / "last.pt"),
        "dataset_sha256": read_json(arguments.data / "lock.json")["splits"]["val"]["prepared_sha256"],
        "images": len(split.records),
    }
    names = PREDICTION_FILES[: 5 if arguments.diagnostics else 2]
    if taken(arguments, run, lambda shared: take_prediction(shared, run, arguments.out, identity, names)):
        return
    for name in PREDICTION_FILES:
        (arguments.out / name).unlink(missing_ok=True)  # none of an earlier prediction may stand beside this one's
    diagnosed = DiagnosedPrediction(run, arguments.data / "val.json") if arguments.diagnostics else None
    predictions, seconds = [], 0.0
    passes = adapter.predict(run, model, split.records)
    for _ in split.records:
        started = time.perf_counter()
        prediction = next(passes)
        seconds += time.perf_counter() - started
        if diagnosed:
            diagnosed.add(prediction)
        predictions.append(replace(prediction, observe=None, quality=None))
    category_ids = np.array(split.category_ids)
    columns = detection_columns([(one.image_id, one.test_stages) for one in predictions], category_ids)
    write_detections(arguments.out / "detections.parquet", columns)
    write_proposals(arguments.out / "proposals.parquet", proposal_columns(predictions))
    if diagnosed:
        diagnosed.write(arguments.out, category_ids)
    write_json(
        arguments.out / "predicted.json",
        {"run": run.id, "seconds_per_image": round(seconds / len(predictions), 4)}
        | identity
        | {"files": digests(arguments.out, PREDICTION_FILES)}
        | circumstances(adapter, arguments),
    )


def predict_with(adapter: Adapter, run: Run, arguments: argparse.Namespace) -> None:
    """Detect with other proposals than the run's own; write ``proposals_of/<name>/detections.parquet``."""
    split = load_split(arguments.data, "val")
    source, given = ProposalSource(None), GROUND_TRUTH
    if arguments.proposals_of:
        path = arguments.proposals_of
        other = read_own_run(path, run.framework)
        if not 0 <= arguments.stage <= other.variant.stages:
            raise InputError(f"--stage {arguments.stage}: {other.id} has 0 (the proposals) to {other.variant.stages}")
        source = ProposalSource(other.id, arguments.stage)
        given = proposals_of(adapter, other, trained_model(adapter, other, path.parent, arguments.device), source.stage)
    elif arguments.stage:
        raise InputError("--stage: needs --proposals-of; ground truth is added to the proposals")
    model, headline = trained_model(adapter, run, arguments.out, arguments.device), run.variant.headline
    found = [
        (prediction.image_id, {headline: prediction.test_stages[headline]})
        for prediction in adapter.predict(run, model, split.records, given)
    ]
    folder = arguments.out / "proposals_of" / source.name
    write_detections(folder / "detections.parquet", detection_columns(found, np.array(split.category_ids)))


def proposals_of(adapter: Adapter, run: Run, model: nn.Module, stage: int) -> GivenProposals:
    """What a detector proposes (stage 0), or the boxes that leave one of its stages."""

    def boxes(record: ImageRecord) -> np.ndarray:
        (prediction,) = adapter.predict(run, model, [record])
        image = prediction.observe(False)
        return image.stages[stage - 1].boxes if stage else image.proposals

    return GivenProposals(boxes, keep_own=False)


def circumstances(adapter: Adapter, arguments: argparse.Namespace) -> dict[str, Any]:
    """Device, hardware, peak memory, versions, command and times: recorded beside a result, and no part of it."""
    device, described = arguments.device, hardware()
    if device.type == "cuda":
        name, peak = torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device) / 2**20
        described |= arithmetic()
    else:
        name, peak = (
            f"CPU, {torch.get_num_threads()} thread(s)",
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
        )
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return {
        "device": name,
        "peak_memory_mb": round(peak),
        "hardware": described,
        "versions": versions | adapter.versions(),
        **arguments.begun,
        "finished": now(),
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; a wrong one exits with code 2."""
    parser = argparse.ArgumentParser(prog="python -m adapters", description=__doc__.splitlines()[0])
    parser.add_argument("framework")
    parser.add_argument("command", choices=list(COMMANDS))
    parser.add_argument("--run", type=Path, required=True, nargs="+", help="the run, run.yaml; inspect takes several")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--each", action="store_true", help="--out is the folder above the runs' folders")
    parser.add_argument("--data", type=Path, help="prepared dataset; default: results/datasets/<name of the dataset>")
    parser.add_argument(
        "--gpus", type=int, default=0, help="GPUs; 0: the CPU; above 1 training starts a process on each"
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="without GPUs: processes that train every step together"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; 1 gives the same bytes on every run")
    parser.add_argument("--accumulation", type=int, default=1, help="passes of every process that make up one step")
    parser.add_argument("--workers", type=int, default=0, help="processes that read training images")
    parser.add_argument("--checkpoint-interval", type=int, default=1000)
    parser.add_argument("--checkpoint-minutes", type=float, default=15.0)
    parser.add_argument("--attempt", type=int, default=1, help="above 1: what no further attempt can mend is refused")
    parser.add_argument(
        "--shared-results",
        type=Path,
        default=os.environ.get(SHARED_RESULTS),
        help=f"folder `results` whose finished runs are taken; default: {SHARED_RESULTS}",
    )
    parser.add_argument("--log-interval", type=int, default=20)
    parser.add_argument(
        "--diagnostics", type=int, choices=[0, 1], default=1, help="1: predict writes the diagnostics of its pass"
    )
    parser.add_argument(
        "--proposals-of", type=Path, help="predict-with: run.yaml of another run; default: the ground truth is added"
    )
    parser.add_argument("--stage", type=int, default=0, help="predict-with: its boxes after this stage")
    arguments = parser.parse_args(argv)
    if len(arguments.run) > 1 and not (arguments.command == "inspect" and arguments.each):
        parser.error("several runs: only inspect takes them, with --each")
    if arguments.gpus and arguments.processes > 1:
        parser.error("--processes: without --gpus, which starts a process for each GPU")
    arguments.processes = arguments.gpus or arguments.processes
    arguments.folder = None
    arguments.words = sys.argv[1:] if argv is None else argv
    arguments.begun = begun(arguments.words)
    return arguments


def begun(words: list[str]) -> dict[str, Any]:
    """What of a result's making is known at its beginning: the project's state, the command line and the time."""
    return {
        "project": project_state(),
        "command": shlex.join(["python", "-m", "adapters", *words]),
        "started": now(),
    }


def prepare_torch(arguments: argparse.Namespace) -> None:
    """Threads, arithmetic, and the device of this process as ``arguments.device``."""
    torch.set_num_threads(arguments.threads)
    set_arithmetic(deterministic=not arguments.gpus)
    if arguments.gpus > torch.cuda.device_count():
        raise InputError(
            f"--gpus {arguments.gpus}: torch sees {torch.cuda.device_count()}; `cascadebench doctor` says more"
        )
    arguments.device = start_process_group("cuda" if arguments.gpus else "cpu")


def read_own_run(path: Path, framework: str) -> Run:
    """Read a run that is the framework's own; raises InputError if it is another's."""
    run = read_run(path)
    if run.framework != framework:
        raise InputError(f"{path}: framework: is {run.framework!r}, asked for {framework!r}")
    return run


COMMANDS = {"inspect": inspect, "train": train, "predict": predict, "predict-with": predict_with}


def run_command(arguments: argparse.Namespace) -> int:
    """Run the command on every run that the command line names; returns the worst exit code of several."""
    runs = [read_own_run(path, arguments.framework) for path in arguments.run]
    if not arguments.each:
        arguments.folder = arguments.out  # from here on it is this run that fails
    prepare_torch(arguments)
    adapter = load_adapter(arguments.framework)
    above, worst, told = arguments.out, 0, set()
    for run in runs:
        arguments.folder = arguments.out = above / run.id if arguments.each else above
        arguments.data = arguments.data or Path("results/datasets") / run.dataset.name
        try:
            execute(partial(COMMANDS[arguments.command], adapter, run, arguments), arguments)
            if not is_one_of_several():
                forget_failure(arguments.out, arguments.command)
        except Exception as error:
            if not arguments.each:
                raise
            code = exit_code(error)
            worst = max(worst, code)
            # Runs of one variant have its mistakes in common.
            note_failure(arguments.folder, arguments.command, error, quietly=code == 2 and str(error) in told)
            told.add(str(error))
    return worst


def predict_checkpoint(words: list[str]) -> int:
    """Run a checkpoint that was trained elsewhere; returns the exit code: 0, or 2 for wrong input."""
    arguments = checkpoint_prediction.parse(words)
    arguments.begun = begun(words)
    try:
        prepare_torch(arguments)
        adapter = load_adapter(arguments.framework)
        stock_model = importlib.import_module(f"adapters.{arguments.framework}.stock_model")
        found = circumstances(adapter, arguments)
        made_with = {"framework": arguments.framework, "device": found["device"]} | found["versions"]
        checkpoint_prediction.predict_checkpoint(stock_model, arguments, made_with)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        stop_process_group()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for a failure (noted in ``failed.json``), 2 for wrong input."""
    words = sys.argv[1:] if argv is None else argv
    if words[1:2] == ["predict-checkpoint"]:
        return predict_checkpoint(words)
    if is_one_of_several():
        end_with_starter()
    arguments = parse(argv)
    arguments.interruption = Interruption()
    try:
        with arguments.interruption.watched("; the next attempt goes on from the last finished step"):
            return run_command(arguments)
    except (Stopped, Exception) as error:
        if is_one_of_several():
            leave_word(error)
        elif isinstance(error, Stopped):
            print(error, file=sys.stderr)
        else:
            note_failure(folder_of_failure(arguments, error), arguments.command, error)
        return exit_code(error)
    finally:
        stop_process_group()


def folder_of_failure(arguments: argparse.Namespace, error: BaseException) -> Path | None:
    """Folder of the run that a failure belongs to; None: no run has failed, the command line is wrong."""
    swapped_wrongly = arguments.command == "predict-with" and exit_code(error) == 2
    return None if swapped_wrongly else arguments.folder


def exit_code(error: BaseException) -> int:
    """Of a command that ended with an exception: 128 and the signal, 2 for wrong input, 1 for any other failure."""
    if isinstance(error, Stopped):
        return error.exit_code
    return 2 if isinstance(error, InputError) and not isinstance(error, Fault) else 1


if __name__ == "__main__":
    sys.exit(main())
