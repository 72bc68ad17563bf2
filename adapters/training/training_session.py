"""What surrounds a training in any framework: seeds, resuming, log, TensorBoard, progress bar and checkpoints.

The framework's own engine drives the loop; a thin hook in each adapter calls :meth:`TrainingSession.restore`,
:meth:`~TrainingSession.before_iteration` and :meth:`~TrainingSession.after_iteration`.
"""

import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from adapters.training.checkpoints import Checkpoints, beginning
from adapters.training.distributed import any_process, of_every_process, place_in_group, wait_for_every_process
from adapters.training.seeding import seed_everything
from adapters.training.shared_sampling import ImageSampling
from adapters.training.stage_recording import StageRecording
from cascadebench.core.errors import Fault
from cascadebench.core.files import remove_unfinished, whole_lines, write_text
from cascadebench.determinism.training_order import consumed_chain, step_seed
from cascadebench.diagnostics.observations import iou_thresholds
from cascadebench.diagnostics.stage_statistics import StageStatisticsLog, write_stage_statistics
from cascadebench.execution.interruption import Interruption, Stopped
from cascadebench.results.layout import RunFolder
from cascadebench.results.registered import known_registrations
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution

RECORDED_EVERY = 20
"""Iterations from one whose stages are recorded to the next."""


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
    interruption : Interruption or None
        Whether a signal asks the training to stop after the step in progress.

    Attributes
    ----------
    start : int
        First iteration to train, above 0 when a checkpoint was found.
    rank, world_size : int
        This process and their number; each trains ``batch_size / world_size`` images a step.
    sampling : ImageSampling
        Seeds of what the model samples, image by image.
    consumed : str
        Chain over every image that was trained on so far, in all processes
        (:func:`cascadebench.determinism.training_order.consumed_chain`).
    loader : FaultTellingLoader or None
        What reads the batches.
    """

    def __init__(
        self,
        run: Run,
        out: Path,
        device: torch.device,
        execution: Execution,
        interruption: Interruption | None = None,
    ) -> None:
        self.run, self.out, self.device, self.execution = run, out, device, execution
        self.iterations = run.protocol.schedule.iterations
        self.rank, self.world_size = place_in_group()
        self.interruption = interruption or Interruption()
        self.checkpoints = Checkpoints(RunFolder(out).checkpoints)
        self.checkpoint = self.checkpoints.last
        self.sampling = ImageSampling(run.seed, self.images_of_rank().start)
        self._resumed = self.checkpoints.load()
        self.start, self.consumed = 0, ""
        if self._resumed.state:
            self.start, self.consumed = (self._resumed.state[key] for key in ("iteration", "consumed_sha256"))
        self.seconds: list[float] = []
        # Checkpoints of an earlier version do not have it.
        self._images: int | None = (self._resumed.state or {}).get("images_per_step")
        self._saved_at = time.monotonic()
        self._recording: StageRecording | None = None
        self._log: TextIO | None = None
        self.loader: Any = None
        self._wall_start = time.perf_counter()

    def images_of_rank(self) -> slice:
        """Columns of the training order that this process reads in every step."""
        share = self.run.protocol.schedule.batch_size // self.world_size
        return slice(self.rank * share, (self.rank + 1) * share)

    def restore(self, model: nn.Module, optimizer: Any, scheduler: Any) -> None:
        """Fill model, optimizer and scheduler from the checkpoint if there is one; open the log either way."""
        state = self._resumed.state
        if state:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            scheduler.load_state_dict(state["scheduler"])
        self._model, self._optimizer, self._scheduler = model, optimizer, scheduler
        if self.rank == 0:
            if self._resumed.note:
                print(f"note: {self._resumed.note}", flush=True)
            self.checkpoints.begin(self._resumed, known_registrations(self.out, self.run.id))
            self._open_logs()
        self._resumed = replace(self._resumed, state=None)  # it is as large as the model
        self._step_ended = time.perf_counter()

    def _open_logs(self) -> None:
        """Keep the lines of a resumed training up to its checkpoint, drop the rest: they are trained again."""
        log, stage_log = RunFolder(self.out).train_log, RunFolder(self.out).stage_log
        kept = [line for line in whole_lines(log) if json.loads(line)["iteration"] < self.start]
        self._check_log(log, len(kept), self.start)
        for path in (log, stage_log):
            remove_unfinished(path)
        write_text(log, "".join(kept))
        self._log = log.open("a", encoding="utf-8")
        self._stage_log = StageStatisticsLog(self.out, iou_thresholds(self.run), self.start)
        self._check_log(stage_log, self._stage_log.kept, math.ceil(self.start / RECORDED_EVERY))
        self._tensorboard = SummaryWriter(
            RunFolder(self.out).tensorboard, purge_step=self.start if self.start else None
        )
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

    def _check_log(self, log: Path, lines: int, expected: int) -> None:
        """Refuse to go on after a log that somebody has deleted or cut: its end would be wrong without a word."""
        if lines != expected:
            raise Fault(
                f"{log}: it has {lines} of the {expected} lines before iteration {self.start}, which the checkpoint "
                f"goes on from; put it back, or delete {self.checkpoint.parent} to train anew"
            )

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
        return self._recording

    def after_iteration(
        self,
        iteration: int,
        losses: dict[str, torch.Tensor],
        learning_rate: float,
        consumed: Sequence[tuple[int, bool, int]],
    ) -> None:
        """Log one finished step and save a checkpoint when it is due.

        Parameters
        ----------
        losses : dict of str to scalar tensor
            Every term of the loss under a common name, weighted as it entered the sum.
        learning_rate : float
            Rate that the optimizer used in this step.
        consumed : sequence of (int, bool, int)
            Image id, whether it was mirrored, and its shorter side in pixels, of every image that this process trained
            on, as the batch says.

        Raises
        ------
        Fault
            If the loss is not finite.
        Stopped
            If a signal has asked for it; a checkpoint of this step is written.
        """
        values = {name: float(value.detach()) for name, value in losses.items()}
        loss = sum(values.values())
        if not math.isfinite(loss):
            wrong = ", ".join(f"{name} is {value}" for name, value in values.items() if not math.isfinite(value))
            what = f"the loss is not finite at iteration {iteration}: {wrong or f'the sum of {values}'}"
            raise Fault(f"{what}; try a lower base_lr", final=True)
        self._images = len(consumed) * self.world_size
        if self._images != self.run.protocol.schedule.batch_size:
            wanted = self.run.protocol.schedule.batch_size
            raise Fault(f"iteration {iteration} has trained on {self._images} images, not on {wanted}", final=True)
        # From the end of one step to the end of the next: one engine reads the batch before its step begins, the other
        # within it. On a GPU the losses' values above waited for the whole step.
        ended = time.perf_counter()
        self.seconds.append(ended - self._step_ended)
        self._step_ended = ended
        self.consumed = consumed_chain(self.consumed, of_every_process(consumed, self.device))
        if self.rank == 0:
            self._record(iteration, values, loss, learning_rate)
            if self._recording is not None:
                self._stage_log.add(iteration, len(consumed), self._recording.stages())
        done = iteration + 1
        stopping = done < self.iterations and any_process(bool(self.interruption.number), self.device)
        if self.rank == 0 and (stopping or self._due(done)):
            self._save(done)
        if stopping:
            wait_for_every_process()  # whoever ends before rank 0 has saved would be taken for lost
            raise Stopped(self.interruption.number or signal.SIGTERM, f" at iteration {done}; the next attempt resumes")

    def _due(self, done: int) -> bool:
        """Whether a checkpoint is due, by iterations or by the clock."""
        minutes = (time.monotonic() - self._saved_at) / 60
        by_count = done % self.execution.checkpoint_interval == 0 or done == self.iterations
        return by_count or minutes >= self.execution.checkpoint_minutes

    def _record(self, iteration: int, values: dict[str, float], loss: float, learning_rate: float) -> None:
        line = {"iteration": iteration, "lr": learning_rate, "loss": loss, "losses": values}
        line["consumed_sha256"] = self.consumed
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
        os.fsync(self._log.fileno())
        state = {
            "iteration": done,
            "consumed_sha256": self.consumed,
            "images_per_step": self._images,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
        }
        self.checkpoints.save(state)
        self._saved_at = time.monotonic()

    def stop_reading(self) -> None:
        """End the loader's processes, however the training ended."""
        if self.loader is not None:
            self.loader.close()

    def finish(self) -> dict[str, Any]:
        """Close the logs and write the stage statistics; return what ``trained.json`` says of time and iterations."""
        self.stop_reading()
        if self.rank == 0 and self._log:
            self._progress.stop()
            self._log.close()
            self._stage_log.close()
            self._tensorboard.close()
        # A process that found the training at its end has opened no log, and the one before may have left none.
        if self.rank == 0 and RunFolder(self.out).stage_log.exists():
            write_stage_statistics(self.out)
        attempts = self.checkpoints.attempts()
        # Of all processes that trained, which a process that found the training at its end knows from the log alone.
        seconds = [json.loads(line)["seconds"] for line in whole_lines(RunFolder(self.out).train_log)]
        return {
            "iterations": self.iterations,
            **beginning(attempts),
            "resumes": sum(attempt["start"] > 0 for attempt in attempts),
            "notes": [attempt["note"] for attempt in attempts if attempt["note"]],
            "seconds_per_iteration": round(float(np.median(seconds)), 4) if seconds else None,
            "wall_seconds": round(time.perf_counter() - self._wall_start, 1),
            "processes": self.world_size,
            "accumulation": self.execution.accumulation,
            "images_per_step": self._images,
            "consumed_sha256": self.consumed,
        }
