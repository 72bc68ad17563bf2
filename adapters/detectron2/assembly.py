"""Everything that training and testing use, built in one place: controls are read from the very same objects."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.data.build import trivial_batch_collator
from detectron2.modeling import GeneralizedRCNN
from detectron2.solver import LRMultiplier
from torch.utils.data import DataLoader

from adapters.detectron2.config import build_detector
from adapters.detectron2.data import ImageReader, TrainingDataset
from adapters.detectron2.training import ClippedSGD, SessionTrainer, build_trainer
from adapters.inspection.probe_inputs import probe_records
from adapters.training.seeding import seed_everything
from adapters.training.training_loader import training_loader
from adapters.training.training_session import TrainingSession
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder, training_order
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution


@dataclass
class Built:
    """A run's objects.

    Attributes
    ----------
    run : Run
        What they were built from.
    model : GeneralizedRCNN
        The detector.
    trainer : SessionTrainer
        Detectron2's loop with its hooks; it owns the optimizer and the loader.
    scheduler : LRMultiplier
        Of the learning rate.
    session : TrainingSession
        Seeds, log and checkpoints.
    reader : ImageReader
        Reads and resizes images for testing; the loader's dataset has one of its own for training.
    """

    run: Run
    model: GeneralizedRCNN
    trainer: SessionTrainer
    scheduler: LRMultiplier
    session: TrainingSession
    reader: ImageReader

    @property
    def optimizer(self) -> ClippedSGD:
        """What steps the weights."""
        return self.trainer.optimizer

    @property
    def loader(self) -> DataLoader:
        """What reads the batches."""
        return self.trainer.data_loader

    @property
    def dataset(self) -> TrainingDataset:
        """What reads one image of the training."""
        return self.loader.dataset


def assemble(
    run: Run, model: GeneralizedRCNN, records: Sequence[ImageRecord], order: TrainingOrder, session: TrainingSession
) -> Built:
    """Build everything around a model."""
    loader = training_loader(TrainingDataset(run, records, order), order, session, trivial_batch_collator)
    trainer, scheduler = build_trainer(run, model, loader, session)
    return Built(run, model, trainer, scheduler, session, ImageReader(run))


def build(run: Run) -> Built:
    """Build a run's objects over the probes' records, for inspection: nothing is read, nothing written.

    torch's random state is that of the run's seed afterwards.
    """
    seed_everything(run.seed)
    model = build_detector(run)
    # A session in no folder finds no checkpoint, and opens no log before it is told to restore.
    session = TrainingSession(run, Path(os.devnull), torch.device("cpu"), Execution())
    records = probe_records()
    return assemble(run, model, records, training_order(records, run.protocol, run.seed), session)
