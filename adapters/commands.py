"""What ``python -m adapters`` does with a run: inspect, train, predict; the same for every framework."""

import gc
import importlib
import platform
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from adapters.contract import Adapter
from adapters.inspection.cost import cost_of
from adapters.job import Job
from adapters.prediction.given_proposals import GROUND_TRUTH, GivenProposals
from adapters.prediction.prediction_files import DiagnosedPrediction, detection_columns, proposal_columns
from adapters.run_lease import take_shared
from adapters.training.arithmetic import arithmetic, cpu_arithmetic
from adapters.training.checkpoints import read_checkpoint
from adapters.training.consumption import check_consumed
from adapters.training.distributed import is_one_of_several
from adapters.training.processes import train_in_processes
from adapters.training.seeding import seed_everything
from adapters.training.step_parts import check_division
from adapters.training.training_session import TrainingSession
from adapters.weights.backbone_weights import fill_backbone
from adapters.witness.witnessing import as_entries, witness_at_inspection
from cascadebench.core.errors import Fault, InputError
from cascadebench.core.files import now, read_json, sha256_of, write_json
from cascadebench.datasets.prepared import ImageRecord, load_split, trainable
from cascadebench.detectors.cards import load_framework_card
from cascadebench.detectors.variant_sources import variant_digest
from cascadebench.determinism.training_order import planned_chains, training_order
from cascadebench.execution.provenance import gpu_driver, hardware, installed
from cascadebench.execution.shared_runs import (
    digests,
    take_prediction,
    take_training,
)
from cascadebench.metrics.coco.detections import write_detections, write_proposals
from cascadebench.results.layout import PREDICTION_FILES, TRAINING_FILES, RunFolder
from cascadebench.study.proposal_swaps import ProposalSource
from cascadebench.study.run import Run, check_batch_division, read_run


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
        fill_backbone(model, adapter.common_names(run), run)
    return model


def inspect(adapter: Adapter, job: Job) -> None:
    """Write ``controls.json``, ``cost.json`` and ``witness.json``; needs neither images nor weights."""
    run = job.run
    gc.collect()  # the run before holds itself in circles, with weights, gradients and momenta
    built = adapter.build(run)
    controls = adapter.read_controls(built)
    write_json(job.out.cost, cost_of(adapter, built.model, run))
    quantities = as_entries(witness_at_inspection(adapter, built, controls))
    write_json(job.out.witness, {"run": run.id, "quantities": quantities})
    read = [asdict(control) for control in controls]
    write_json(job.out.controls, {"run": run.id, "versions": adapter.versions(), "controls": read})


def train(adapter: Adapter, job: Job) -> None:
    """Train or resume; write ``trained.json`` last. A run that uses another's weights takes over its manifest."""
    run, accumulation = job.run, job.execution.accumulation
    if run.variant.weights_from:
        other = weights_folder(run, job.out).trained
        if not other.exists():
            raise InputError(f"{other}: no such file; the run whose weights {run.id} uses must be trained first")
        write_json(job.out.trained, read_json(other) | {"run": run.id, "weights_from": run.variant.weights_from})
        return
    records = trainable(load_split(job.data.path, "train", segmentations=run.variant.masks))
    train_lock = read_json(job.data.lock)["splits"]["train"]
    order = training_order(records, run.protocol, run.seed)
    identity = {
        "iterations": run.protocol.schedule.iterations,
        "training_order_sha256": order.digest(),
        "dataset_sha256": train_lock["prepared_sha256"],
        "pictures_sha256": train_lock["pictures_sha256"],
        "variant_sha256": variant_digest(run.variant.home),  # now: somebody may edit it meanwhile
    }
    if take_shared(job, lambda shared: take_training(shared, run, job.out, identity)):
        return
    if job.processes > 1 and not is_one_of_several():
        check_batch_division(run, job.processes, accumulation, "execution")
        train_in_processes(job.processes, job.argv, job.interruption)
        return
    session = TrainingSession(run, job.out.path, job.device, job.execution, job.interruption)
    planned = list(planned_chains(records, order, run.protocol.input.max_long_side))
    check_consumed(session, session.start, planned)
    if session.start < session.iterations:
        if session.start:
            print(f"resuming at iteration {session.start}", flush=True)
        model = initial_model(adapter, run, with_weights=session.start == 0).to(job.device)
        check_division(run, model, session.world_size, accumulation)
        with job.interruption.watched(None):
            try:
                adapter.train(run, model, records, order, session)
            finally:
                session.stop_reading()
    if session.rank == 0:
        check_consumed(session, session.iterations, planned)
        summary = session.finish() | {"run": run.id, "checkpoint_sha256": sha256_of(session.checkpoint)} | identity
        summary |= {"planned_sha256": planned[-1], "pictures": train_lock["pictures"]}
        summary |= {"files": digests(job.out.path, TRAINING_FILES)} | circumstances(adapter, job.device, job.begun)
        write_json(job.out.trained, summary)


def read_own_run(path: Path, framework: str) -> Run:
    """Read a run that is the framework's own; raises InputError if it is another's."""
    run = read_run(path)
    if run.framework != framework:
        raise InputError(f"{path}: framework: is {run.framework!r}, asked for {framework!r}")
    return run


def weights_folder(run: Run, out: RunFolder) -> RunFolder:
    """Folder of the run that was trained: its own, or beside it that of the run whose weights it uses."""
    return out.beside(run.variant.weights_from) if run.variant.weights_from else out


def trained_model(adapter: Adapter, run: Run, out: RunFolder, device: torch.device) -> nn.Module:
    """Build a run's detector with the weights that its training left; raises InputError if there are none yet."""
    model = initial_model(adapter, run, with_weights=False)
    folder = weights_folder(run, out)
    checkpoint, manifest = folder.last_checkpoint, folder.trained
    if not checkpoint.exists():
        raise InputError(f"{checkpoint}: no such file; the run must be trained first")
    if manifest.exists() and read_json(manifest)["checkpoint_sha256"] != sha256_of(checkpoint):
        raise Fault(f"{checkpoint}: damaged: its checksum is not that of {manifest.name}; delete both to train again")
    state = read_checkpoint(checkpoint)
    if state["iteration"] != run.protocol.schedule.iterations:
        raise InputError(
            f"{checkpoint}: trained for {state['iteration']} of {run.protocol.schedule.iterations} iterations"
        )
    model.load_state_dict(state["model"])
    return model.to(device).eval()


def predict(adapter: Adapter, job: Job) -> None:
    """Detect on the validation images; write detections, proposals, diagnostics, and ``predicted.json`` last."""
    run, out, diagnostics = job.run, job.out, job.execution.diagnostics
    split = load_split(job.data.path, "val")
    lock = read_json(job.data.lock)["splits"]["val"]
    model = trained_model(adapter, run, out, job.device)
    identity = {
        "checkpoint_sha256": sha256_of(weights_folder(run, out).last_checkpoint),
        "dataset_sha256": lock["prepared_sha256"],
        "pictures_sha256": lock["pictures_sha256"],
        "images": len(split.records),
    }
    names = PREDICTION_FILES[: 5 if diagnostics else 2]
    if take_shared(job, lambda shared: take_prediction(shared, run, out, identity, names)):
        return
    for name in PREDICTION_FILES:
        (out.path / name).unlink(missing_ok=True)  # none of an earlier prediction may stand beside this one's
    diagnosed = DiagnosedPrediction(run, job.data.val) if diagnostics else None
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
    write_detections(out.detections, columns)
    write_proposals(out.proposals, proposal_columns(predictions))
    if diagnosed:
        diagnosed.write(out.path, category_ids)
    write_json(
        out.predicted,
        {"run": run.id, "seconds_per_image": round(seconds / len(predictions), 4), "pictures": lock["pictures"]}
        | identity
        | {"files": digests(out.path, PREDICTION_FILES)}
        | circumstances(adapter, job.device, job.begun),
    )


def predict_with(adapter: Adapter, job: Job) -> None:
    """Detect with other proposals than the run's own; write ``proposals_of/<name>/detections.parquet``."""
    run, split = job.run, load_split(job.data.path, "val")
    source, given = ProposalSource(None), GROUND_TRUTH
    if job.proposals_of:
        path = job.proposals_of
        other = read_own_run(path, run.framework)
        if not 0 <= job.stage <= other.variant.stages:
            raise InputError(f"--stage {job.stage}: {other.id} has 0 (the proposals) to {other.variant.stages}")
        source = ProposalSource(other.id, job.stage)
        proposer = trained_model(adapter, other, RunFolder(path.parent), job.device)
        given = proposals_of(adapter, other, proposer, source.stage)
    elif job.stage:
        raise InputError("--stage: needs --proposals-of; ground truth is added to the proposals")
    model, headline = trained_model(adapter, run, job.out, job.device), run.variant.headline
    detections = [
        (prediction.image_id, {headline: prediction.test_stages[headline]})
        for prediction in adapter.predict(run, model, split.records, given)
    ]
    columns = detection_columns(detections, np.array(split.category_ids))
    write_detections(job.out.proposal_swap(source.name).detections, columns)


def proposals_of(adapter: Adapter, run: Run, model: nn.Module, stage: int) -> GivenProposals:
    """What a detector proposes (stage 0), or the boxes that leave one of its stages."""

    def boxes(record: ImageRecord) -> np.ndarray:
        (prediction,) = adapter.predict(run, model, [record])
        image = prediction.observe(False)
        return image.stages[stage - 1].boxes if stage else image.proposals

    return GivenProposals(boxes, keep_own=False)


def circumstances(adapter: Adapter, device: torch.device, begun: Mapping[str, Any]) -> dict[str, Any]:
    """Device, hardware, torch's switches, peak memory, every package's version, command and times.

    They are recorded beside a result, and no part of it.
    """
    described = hardware() | cpu_arithmetic()
    if device.type == "cuda":
        name, peak = torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device) / 2**20
        described |= {"gpu": name, "driver": gpu_driver()}
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
        "arithmetic": arithmetic(),
        "versions": versions | adapter.versions(),
        **installed(),
        **begun,
        "finished": now(),
    }


COMMANDS = {"inspect": inspect, "train": train, "predict": predict, "predict-with": predict_with}
