"""What surrounds a training in any framework: seeds, resuming, log, TensorBoard, progress bar and checkpoints.

The framework's own engine drives the loop; a thin hook in each adapter calls :meth:`TrainingSession.restore`,
:meth:`~TrainingSession.before_iteration` and :meth:`~TrainingSession.after_iteration`.
"""

import hashlib
import json
import math
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from adapters.stage_recording import StageRecording
from adapters.step_parts import ImageSampling
from cascadebench.diagnostics.observations import iou_thresholds
from cascadebench.diagnostics.stage_statistics import STAGE_LOG, StageStatisticsLog, write_stage_statistics
from cascadebench.files import written_beside
from cascadebench.run import Run
from cascadebench.study import Execution
from cascadebench.training_order import step_seed

RECORDED_EVERY = 20
"""Iterations from one whose stages are recorded to the next."""


class DivergedError(RuntimeError):
    """The loss became infinite or NaN."""


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the frameworks draw from the legacy generator)
    torch.manual_seed(seed)


class TrainingSession:
    """State of one training process.

    Parameters
    ----------
    run : Run
        What is trained.
    out : Path
        The run's folder; the process of rank 0 writes ``train_log.jsonl``, ``tensorboard/``, ``checkpoints/`` and
        ``stage_statistics.*`` there, the last of its own images.
    device : torch.device
        Where the model trains.
    execution : Execution
        Intervals of log and checkpoints, threads, loader processes.

    Attributes
    ----------
    start : int
        First iteration to train, above 0 when a checkpoint was found.
    rank, world_size : int
        This process and their number; each trains ``batch_size / world_size`` images a step.
    sampling : ImageSampling
        Random states of what the model samples, image by image.
    """

    def __init__(self, run: Run, out: Path, device: torch.device, execution: Execution) -> None:
        self.run, self.out, self.device, self.execution = run, out, device, execution
        self.iterations = run.protocol.schedule.iterations
        self.rank = int(os.environ.get("RANK", 0))
        self.world_size = int(os.environ.get("WORLD_SIZE", 1))
        self.checkpoint = out / "checkpoints" / "last.pt"
        self.sampling = ImageSampling(run.seed, self.images_of_rank().start)
        self.start, self.resumes, self._consumed = 0, 0, ""
        self._state: dict[str, Any] | None = None
        if self.checkpoint.exists():
            self._state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            self.start, self.resumes = self._state["iteration"], self._state["resumes"] + 1
            self._consumed = self._state["consumed_sha256"]
        self.seconds: list[float] = []
        self._images: int | None = None
        self._recording: StageRecording | None = None
        self._log: TextIO | None = None
        self._wall_start = time.perf_counter()

    def images_of_rank(self) -> slice:
        """Columns of the training order that this process reads in every step."""
        share = self.run.protocol.schedule.batch_size // self.world_size
        return slice(self.rank * share, (self.rank + 1) * share)

    def restore(self, model: nn.Module, optimizer: Any, scheduler: Any) -> None:
        """Fill model, optimizer and scheduler from the checkpoint if there is one; open the log either way."""
        if self._state:
            model.load_state_dict(self._state["model"])
            optimizer.load_state_dict(self._state["optimizer"])
            scheduler.load_state_dict(self._state["scheduler"])
            self._state = None
        self._model, self._optimizer, self._scheduler = model, optimizer, scheduler
        if self.rank == 0:
            self._open_logs()

    def _open_logs(self) -> None:
        """Keep the lines of a resumed training up to its checkpoint, drop the rest: they are trained again."""
        log = self.out / "train_log.jsonl"
        kept = []
        if self.start and log.exists():
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["iteration"] < self.start]
        with written_beside(log) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
        self._log = log.open("a", encoding="utf-8")
        self._stage_log = StageStatisticsLog(self.out, iou_thresholds(self.run), self.start)
        self._tensorboard = SummaryWriter(self.out / "tensorboard", purge_step=self.start if self.start else None)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._progress.start()
        self._bar = self._progress.add_task(self.run.variant.name, total=self.iterations, completed=self.start)

    def before_iteration(self, iteration: int) -> StageRecording | None:
        """Seed the random sampling of one step: a resumed training draws what an uninterrupted one would.

        Returns
        -------
        StageRecording or None
            What the RoI heads shall tell of this step; None: it is not recorded.
        """
        seed_everything(step_seed(self.run.seed, iteration))
        self.sampling.begin(iteration)
        self._recording = None
        if self.rank == 0 and iteration % RECORDED_EVERY == 0:
            self._recording = StageRecording(self.run.variant.stages, iou_thresholds(self.run)[0])
        self._iteration_start = time.perf_counter()
        return self._recording

    def after_iteration(
        self,
        iteration: int,
        losses: dict[str, torch.Tensor],
        learning_rate: float,
        consumed: Sequence[tuple[int, bool]],
    ) -> None:
        """Log one finished step and save a checkpoint when it is due.

        Parameters
        ----------
        losses : dict of str to scalar tensor
            Every term of the loss under a common name, weighted as it entered the sum.
        learning_rate : float
            Rate that the optimizer used in this step.
        consumed : sequence of (int, bool)
            Image id, and whether it was mirrored, of every image that this process trained on, as the batch says.

        Raises
        ------
        DivergedError
            If the loss is not finite.
        """
        values = {name: float(value.detach()) for name, value in losses.items()}
        loss = sum(values.values())
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is not finite at iteration {iteration}: {values}; try a lower base_lr")
        self.seconds.append(time.perf_counter() - self._iteration_start)
        self._images = len(consumed) * self.world_size
        # A chain: equal hashes mean that everything up to here was equal.
        step = "".join(f"{image_id}{'-' if flipped else '+'}" for image_id, flipped in consumed)
        self._consumed = hashlib.sha256(f"{self._consumed}{step}".encode()).hexdigest()
        if self.rank == 0:
            self._record(iteration, values, loss, learning_rate)
            if self._recording is not None:
                self._stage_log.add(iteration, len(consumed), self._recording.stages())
            done = iteration + 1
            if done % self.execution.checkpoint_interval == 0 or done == self.iterations:
                self._save(done)

    def _record(self, iteration: int, values: dict[str, float], loss: float, learning_rate: float) -> None:
        line = {"iteration": iteration, "lr": learning_rate, "loss": loss, "losses": values}
        line["consumed_sha256"] = self._consumed
        self._log.write(json.dumps(line | {"seconds": round(self.seconds[-1], 4)}) + "\n")
        self._tensorboard.add_scalar("learning_rate", learning_rate, iteration)
        self._tensorboard.add_scalar("loss", loss, iteration)
        for name, value in values.items():
            self._tensorboard.add_scalar(f"losses/{name}", value, iteration)
        self._progress.update(
            self._bar, completed=iteration + 1, description=f"{self.run.variant.name} loss {loss:.3f}"
        )
        done = iteration + 1
        if self._progress.disable and (done % self.execution.log_interval == 0 or done == self.iterations):
            recent = float(np.mean(self.seconds[-self.execution.log_interval :]))
            minutes = (self.iterations - done) * recent / 60
            print(
                f"iteration {done}/{self.iterations}  loss {loss:.4f}  lr {learning_rate:.6f}  "
                f"{recent:.3f} s/iteration  {minutes:.1f} min left",
                flush=True,
            )

    def _save(self, done: int) -> None:
        self._log.flush()
        self._stage_log.flush()
        state = {
            "iteration": done,
            "resumes": self.resumes,
            "consumed_sha256": self._consumed,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
        }
        # Through an open file: a path's name would enter the archive, and the same training give other bytes.
        with written_beside(self.checkpoint) as temporary, temporary.open("wb") as stream:
            torch.save(state, stream)

    def finish(self) -> dict[str, Any]:
        """Close the logs and write the stage statistics; return what ``trained.json`` says of time and iterations."""
        if self.rank == 0 and self._log:
            self._progress.stop()
            self._log.close()
            self._stage_log.close()
            self._tensorboard.close()
        # A process that found the training at its end has opened no log, and the one before may have left none.
        if self.rank == 0 and (self.out / STAGE_LOG).exists():
            write_stage_statistics(self.out)
        return {
            "iterations": self.iterations,
            "resumes": self.resumes,
            "seconds_per_iteration": round(float(np.median(self.seconds)), 4) if self.seconds else None,
            "wall_seconds": round(time.perf_counter() - self._wall_start, 1),
            "processes": self.world_size,
            "accumulation": self.execution.accumulation,
            "images_per_step": self._images,
        }
