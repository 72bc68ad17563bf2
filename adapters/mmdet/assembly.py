"""Everything that a run's training and testing use, built once; the controls are read from it."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmcv.transforms import Compose
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch.utils.data import DataLoader

from adapters.inspection.probe_inputs import probe_records
from adapters.mmdet import training
from adapters.mmdet.config import build_detector
from adapters.mmdet.data import TrainingDataset, test_transforms
from adapters.training.seeding import seed_everything
from adapters.training.training_loader import training_loader
from adapters.training.training_session import TrainingSession
from cascadebench.determinism.training_order import TrainingOrder, training_order
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution

PLANNED_IMAGES = 1000
"""The built order has at least so many images, unless the schedule has fewer."""


@dataclass
class Built:
    """The objects of a run, as its training and its testing build them.

    Attributes
    ----------
    run : Run
        What was built.
    model : BaseModel
        Detector with its initial weights; weights of the backbone are not read.
    optim_wrapper : OptimWrapper
        MMEngine's optimizer.
    schedulers : list
        Its learning-rate schedulers, before the first step.
    loop : dict
        Configuration of MMEngine's loop.
    hooks : list of Hook
        What takes part in the loop.
    session : TrainingSession
        A new one, which writes nothing.
    loader : DataLoader
        Over a list of records without pictures; ``loader.dataset`` has the training transforms.
    test_transforms : Compose
        Transforms of a test image.
    """

    run: Run
    model: BaseModel
    optim_wrapper: OptimWrapper
    schedulers: list
    loop: dict[str, Any]
    hooks: list[Hook]
    session: TrainingSession
    loader: DataLoader
    test_transforms: Compose

    @property
    def dataset(self) -> TrainingDataset:
        """What the loader reads."""
        return self.loader.dataset


def build(run: Run) -> Built:
    """Build a run's objects without its data and without weights of the backbone."""
    seed_everything(run.seed)  # as training does before it builds the model
    model = build_detector(run)
    optim_wrapper = training.build_optimizer(model, run)
    schedulers = training.build_schedulers(optim_wrapper, run)
    session = TrainingSession(run, Path(os.devnull), torch.device("cpu"), Execution())
    records, order = probe_records(), planned_order(run)
    return Built(
        run,
        model,
        optim_wrapper,
        schedulers,
        training.loop_config(run),
        training.build_hooks(session, model),
        session,
        training_loader(TrainingDataset(run, records, order), order, session, pseudo_collate),
        test_transforms(run),
    )


def planned_order(run: Run) -> TrainingOrder:
    """Draw the beginning of the training order over the probes' records.

    Images and flips of a longer order begin in the same way; the whole order of a long schedule takes a second.
    """
    schedule = run.protocol.schedule
    iterations = min(math.ceil(PLANNED_IMAGES / schedule.batch_size), schedule.iterations)
    short = run.protocol.model_copy(update={"schedule": schedule.model_copy(update={"iterations": iterations})})
    return training_order(probe_records(), short, run.seed)
