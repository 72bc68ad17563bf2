"""What the harness costs beside the plain framework, measured side by side in one process.

    python -m benchmarks.adapters --framework mmdet --variant cascade_rcnn
    python -m benchmarks.adapters --framework detectron2 --variant cascade_rcnn \
        --protocol coco_1x --backbone resnet50 --size 800 --batch 1 --images 8 --steps 5 --pairs 3

The plain framework is ``benchmarks/plain_<framework>.py``: the framework's own template, classes, data pipeline and
training loop. Equal on both sides are the images, their size, the batch, the processes that read it, the backbone, the
width of every layer (the numbers of parameters are compared), anchors, proposals, RoIs, and the weights that every
measurement begins from. The two sides take turns, so that what else the machine does meets both. The ratio is the
median over the pairs, and the middle half of them is given. Training is timed from one forward pass to the next, so
that everything is in it that happens in a step but checkpoints: reading, log, TensorBoard, hooks. Steps whose stages
are recorded are timed apart, and enter in the proportion that they have in a training, however few steps are timed.
"""

import argparse
import logging
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import PropertyMock, patch

import numpy as np
import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import nn

from adapters.commands import initial_model, load_adapter
from adapters.prediction.prediction_files import DiagnosedPrediction
from adapters.training.arithmetic import set_arithmetic
from adapters.training.seeding import seed_everything
from adapters.training.training_session import RECORDED_EVERY, TrainingSession
from cascadebench.datasets.prepare import prepare
from cascadebench.datasets.prepared import ImageRecord, load_split, trainable
from cascadebench.detectors.backbone import load_backbone
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.determinism.training_order import training_order
from cascadebench.study.run import ChosenVariant, Run
from cascadebench.study.study_file import Execution, load_protocol
from cascadebench.study_loading import load_study

MEASURED = ("training", "inference")
UNTIMED_STEPS = 3
UNTIMED_IMAGES = 2
CONSOLE = Console(width=120, highlight=False)


@dataclass
class Pairs:
    """Seconds of two sides that took turns, wall and processor time."""

    first: list[np.ndarray] = field(default_factory=list)
    second: list[np.ndarray] = field(default_factory=list)

    def row(self, words: str, times: float = 1.0) -> tuple[str, ...]:
        """A row of the table; `times`: how often the second side has to be run."""
        first, second = np.array(self.first), np.array(self.second) * times
        wall, processor = (first / second).T
        low, high = np.quantile(wall, [0.25, 0.75])
        seconds = (f"{1000 * np.median(side[:, 0]):.1f}" for side in (first, second))
        return (words, *seconds, f"{np.median(wall):.3f}", f"{low:.3f} to {high:.3f}", f"{np.median(processor):.3f}")


def now() -> np.ndarray:
    """Wall and processor time in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


class Bench:
    """Both sides of one detector, over drawn images."""

    def __init__(self, run: Run, data: Path, execution: Execution, checkpoint: Path | None) -> None:
        self.run, self.data, self.execution = run, data, execution
        self.adapter = load_adapter(run.framework)
        self.model = initial_model(self.adapter, run, with_weights=False)
        if checkpoint:
            self.model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["model"])
        module = import_module(f"benchmarks.plain_{run.framework}")
        self.plain = module.PlainDetector(run, data, execution.loader_workers)
        self.parameters = equal_parameters(self.model, self.plain.model)
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()}

    def reset(self) -> None:
        """Give both models the weights that everything begins from."""
        self.model.load_state_dict(self.start)
        copy_weights(self.model, self.plain.model)

    def training(self, pairs: int) -> tuple[Pairs, Pairs]:
        """A step of the adapter beside the framework's own, and a recorded step beside one that is not."""
        sides = [self.plain_steps, partial(self.adapter_steps, sys.maxsize), partial(self.adapter_steps, 1)]
        plain, unrecorded, recorded = take_turns(sides, pairs)
        own = unrecorded + (recorded - unrecorded) / RECORDED_EVERY
        return Pairs(list(own), list(plain)), Pairs(list(recorded), list(unrecorded))

    def adapter_steps(self, recorded_every: int) -> np.ndarray:
        """Train as ``python -m adapters`` does, but for how often stages are recorded; returns the time of a step."""
        self.reset()
        records = trainable(load_split(self.data, "train"))
        order = training_order(records, self.run.protocol, self.run.seed)
        with (
            tempfile.TemporaryDirectory() as folder,
            patch("adapters.training.training_session.RECORDED_EVERY", recorded_every),
            quiet(),
            deterministic(),
        ):
            session = TrainingSession(self.run, Path(folder), torch.device("cpu"), self.execution)
            taken = timed_steps(self.model, lambda: self.adapter.train(self.run, self.model, records, order, session))
            session.finish()
        return taken

    def plain_steps(self) -> np.ndarray:
        """Train as the framework does; returns the time of a step."""
        self.reset()
        seed_everything(self.run.seed)
        with tempfile.TemporaryDirectory() as folder, quiet():
            return timed_steps(self.plain.model, lambda: self.plain.train(Path(folder)))

    def inference(self, records: Sequence[ImageRecord], stages: Sequence[TestStage]) -> tuple[Pairs, Pairs]:
        """An image through the adapter and through the framework; the adapter with its diagnostics, and without."""
        self.reset()
        self.model.eval()
        self.plain.model.eval()
        beside, diagnosed = Pairs(), Pairs()
        observer = DiagnosedPrediction(self.run, self.data / "val.json")
        with patch.object(ChosenVariant, "test_stages", new_callable=PropertyMock, return_value=list(stages)):
            passes = self.adapter.predict(self.run, self.model, records)
            for number, record in enumerate(records):
                if number % 2:
                    plain, _ = timed(self.plain.infer, record)
                with deterministic():
                    own, prediction = timed(next, passes)
                    observed, _ = timed(observer.add, prediction)
                if not number % 2:
                    plain, _ = timed(self.plain.infer, record)
                if number >= UNTIMED_IMAGES:
                    beside.first.append(own)
                    beside.second.append(plain)
                    diagnosed.first.append(own + observed)
                    diagnosed.second.append(own)
        return beside, diagnosed


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[np.ndarray, Any]:
    """Time that some work takes, and what it returns."""
    began = now()
    found = work(*arguments)
    return now() - began, found


def timed_steps(model: nn.Module, train: Callable[[], None]) -> np.ndarray:
    """Mean time from one forward pass of a training to the next, without the first ones."""
    marks: list[np.ndarray] = []
    hook = model.register_forward_pre_hook(lambda *_: marks.append(now()))
    try:
        train()
    finally:
        hook.remove()
    return (marks[-1] - marks[UNTIMED_STEPS]) / (len(marks) - 1 - UNTIMED_STEPS)


def take_turns(sides: Sequence[Callable[[], np.ndarray]], rounds: int) -> np.ndarray:
    """Measure sides in turn, each round beginning with another; returns times by side and round.

    One round more is the first; it warms up and is dropped.
    """
    found = np.zeros((len(sides), rounds + 1, 2))
    for number in range(rounds + 1):
        for place in range(len(sides)):
            side = (number + place) % len(sides)
            found[side, number] = sides[side]()
    return found[:, 1:]


@contextmanager
def quiet() -> Iterator[None]:
    """Send what a training prints nowhere; its text is still made."""
    with Path(os.devnull).open("w") as nowhere, patch("sys.stdout", nowhere):
        yield


@contextmanager
def deterministic() -> Iterator[None]:
    """Compute as ``python -m adapters`` does on the CPU."""
    set_arithmetic(deterministic=True)
    try:
        yield
    finally:
        set_arithmetic(deterministic=False)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy weights between two detectors whose parameters have other names, but stand in the same order."""
    with torch.no_grad():
        for one, other in zip(weights(source), weights(target), strict=True):
            other.copy_(one)


def weights(model: nn.Module) -> list[torch.Tensor]:
    """Parameters and statistics, in their order."""
    statistics = [value for name, value in model.named_buffers() if name.endswith(("running_mean", "running_var"))]
    return [*model.parameters(), *statistics]


def equal_parameters(own: nn.Module, plain: nn.Module) -> int:
    """Number of parameters of both; a difference ends the benchmark."""
    shapes = [[tuple(one.shape) for one in weights(model)] for model in (own, plain)]
    if shapes[0] != shapes[1]:
        sys.exit("the two detectors differ in their parameters")
    return sum(parameter.numel() for parameter in own.parameters())


def planned_run(options: argparse.Namespace) -> Run:
    """The embedded study's run, with what was asked for in place of its own."""
    planned = load_study("tiny").runs
    run = next(
        one.run for one in planned if (one.run.framework, one.run.variant.name) == (options.framework, options.variant)
    )
    protocol = load_protocol(options.protocol, {}, "--protocol")
    images = {"train_images": options.images, "val_images": options.images, "image_size": options.size}
    dataset = run.dataset.model_copy(update={"data": run.dataset.data.model_copy(update=images)})
    # A mark more than the steps between them.
    schedule = {"iterations": options.steps + UNTIMED_STEPS + 1, "warmup_iterations": 0, "steps": (), "base_lr": 0.001}
    if options.batch:
        schedule["batch_size"] = options.batch
    protocol = protocol.model_copy(update={"schedule": protocol.schedule.model_copy(update=schedule)})
    backbone = load_backbone(options.backbone, "--backbone")
    return run.model_copy(update={"protocol": protocol, "dataset": dataset, "backbone": backbone})


def training_rows(bench: Bench, pairs: int) -> Iterator[tuple[str, ...]]:
    """Rows of the table about training, from as many blocks of either side."""
    training, recording = bench.training(pairs)
    yield training.row("step of training: adapter | plain")
    yield recording.row("step of training: recorded | not recorded")


def inference_rows(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Rows of the table about inference."""
    records = load_split(bench.data, "val").records
    every = bench.run.variant.test_stages
    without_last = [stage for stage in every if stage.rule != "last_rois"]
    headline = [stage for stage in every if stage.label == bench.run.variant.headline]
    beside, diagnosed = bench.inference(records, every)
    yield beside.row(f"image: all {len(every)} test stages | plain, one output")
    if len(every) > 1:
        some, _ = bench.inference(records, without_last)
        yield some.row(f"image: {len(without_last)} test stages, no last RoIs | plain")
        one, _ = bench.inference(records, headline)
        yield one.row("image: one test stage | plain")
        yield beside.row(f"image: one pass | {len(every)} plain passes", times=len(every))
    with_candidates = 20 - UNTIMED_IMAGES
    later = Pairs(diagnosed.first[with_candidates:], diagnosed.second[with_candidates:])
    if later.first:
        yield later.row("image: with diagnostics | without")
    first = Pairs(diagnosed.first[:with_candidates], diagnosed.second[:with_candidates])
    yield first.row("one of the first 20 images: with diagnostics | without")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=["mmdet", "detectron2"], required=True)
    parser.add_argument("--variant", choices=["faster_rcnn", "cascade_rcnn"], default="cascade_rcnn")
    parser.add_argument("--protocol", default="tiny")
    parser.add_argument("--backbone", default="resnet18_narrow")
    parser.add_argument("--size", type=int, default=128, help="longer side of the drawn images")
    parser.add_argument("--images", type=int, default=60, help="drawn for training, and as many for testing")
    parser.add_argument("--batch", type=int, help="images in a step of training; default: the protocol's")
    parser.add_argument("--steps", type=int, default=20, help="timed in a block of training")
    parser.add_argument("--pairs", type=int, default=9, help="blocks of either side")
    parser.add_argument("--measure", nargs="+", choices=MEASURED, default=MEASURED, help="default: both")
    parser.add_argument("--workers", type=int, default=0, help="processes that read training images")
    parser.add_argument("--checkpoint", type=Path, help="last.pt of a trained run; default: initial weights")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(argv)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    run = planned_run(options)
    execution = Execution(loader_workers=options.workers, checkpoint_interval=run.protocol.schedule.iterations)
    CONSOLE.print(f"python -m benchmarks.adapters {' '.join(sys.argv[1:] if argv is None else argv)}", markup=False)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        prepare(run.dataset, data)
        bench = Bench(run, data, execution, options.checkpoint)
        versions = ", ".join(f"{name} {version}" for name, version in bench.adapter.versions().items())
        CONSOLE.print(
            f"{versions}, torch {torch.__version__}, {platform.machine()}, one thread; "
            f"{bench.parameters} parameters, batch {run.protocol.schedule.batch_size}",
            markup=False,
        )
        table = Table("first | second", "first ms", "second ms", "ratio", "middle half", "processor time", box=SIMPLE)
        rows = training_rows(bench, options.pairs) if "training" in options.measure else ()
        more = inference_rows(bench) if "inference" in options.measure else ()
        for row in chain(rows, more):
            table.add_row(*row)
        CONSOLE.print(table)


if __name__ == "__main__":
    main()
