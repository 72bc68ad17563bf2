"""A run assembled for inspection: as for training, but over records without pictures, and in no folder."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from adapters.inspection.probe_inputs import probe_records
from adapters.training.assembly import Built
from adapters.training.seeding import seed_everything
from adapters.training.training_session import TrainingSession
from cascadebench.determinism.training_order import TrainingOrder, training_order
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution

PLANNED_IMAGES = 1000
"""The order has at least so many images, unless the schedule has fewer."""


def assemble_for_inspection(
    run: Run, build_detector: Callable[[Run], nn.Module], assemble: Callable[..., Built]
) -> Built:
    """Build a run's objects: no picture and no weights of the backbone are read, nothing is written.

    torch's random state is that of the run's seed afterwards.

    Parameters
    ----------
    build_detector : callable
        The framework's way from a run to its detector with initial weights.
    assemble : callable
        What its training calls with run, model, records, order and session.
    """
    seed_everything(run.seed)  # as training does before it builds the model
    model = build_detector(run)
    # A session in no folder finds no checkpoint, and opens no log before it is told to restore.
    session = TrainingSession(run, Path(os.devnull), torch.device("cpu"), Execution())
    return assemble(run, model, probe_records(), planned_order(run), session)


def planned_order(run: Run) -> TrainingOrder:
    """Draw the beginning of the training order over the probes' records.

    Images and flips of a longer order begin in the same way; the whole order of a long schedule takes a second.
    """
    schedule = run.protocol.schedule
    iterations = min(math.ceil(PLANNED_IMAGES / schedule.batch_size), schedule.iterations)
    short = run.protocol.model_copy(update={"schedule": schedule.model_copy(update={"iterations": iterations})})
    return training_order(probe_records(), short, run.seed)
