"""Everything that a run's training uses, assembled once: what an inspection reads is what trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn
from torch.utils.data import DataLoader

from adapters.data.training_dataset import ImageReader, TrainingDataset
from adapters.training.training_loader import training_loader
from adapters.training.training_session import TrainingSession
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder
from cascadebench.study.run import Run


class Engine(Protocol):
    """A framework's loop, and what it works with.

    Attributes
    ----------
    optimizer : object
        It steps the weights.
    schedulers : list
        They move the optimizer's learning rate.
    data_loader : DataLoader
        It gives the batches.
    hooks : list
        They take part in the loop, the session's among them.
    """

    optimizer: Any
    schedulers: list
    data_loader: DataLoader
    hooks: list

    def train(self) -> Any:
        """Train from the session's first iteration to the last."""


@dataclass
class Built:
    """A run's objects. Optimizer, schedulers, loader and hooks are those of the engine: the ones that will train.

    Attributes
    ----------
    run : Run
        What they were built from.
    model : nn.Module
        The detector.
    engine : Engine
        The framework's loop.
    session : TrainingSession
        Seeds, log and checkpoints.
    reader : ImageReader
        Reads images for testing; ``dataset.reader`` reads those of the training.
    """

    run: Run
    model: nn.Module
    engine: Engine
    session: TrainingSession
    reader: ImageReader

    @property
    def optimizer(self) -> Any:
        """What steps the weights."""
        return self.engine.optimizer

    @property
    def schedulers(self) -> list:
        """What moves the learning rate."""
        return self.engine.schedulers

    @property
    def hooks(self) -> list:
        """What takes part in the loop."""
        return self.engine.hooks

    @property
    def loader(self) -> DataLoader:
        """What reads the batches."""
        return self.engine.data_loader

    @property
    def dataset(self) -> TrainingDataset:
        """What reads one image of the training."""
        return self.loader.dataset


def assemble_training(
    run: Run,
    model: nn.Module,
    records: Sequence[ImageRecord],
    order: TrainingOrder,
    session: TrainingSession,
    image_reader: Callable[[Run], ImageReader],
    collate: Callable[[list], Any],
    engine: Callable[[Run, nn.Module, DataLoader, TrainingSession], Engine],
) -> Built:
    """Build everything around a model.

    Parameters
    ----------
    image_reader, collate, engine : callable
        The framework's: what reads images, makes a batch of a list of items, and builds the loop.
    """
    dataset = TrainingDataset(image_reader(run), records, order)
    loader = training_loader(dataset, order, session, collate)
    return Built(run, model, engine(run, model, loader, session), session, image_reader(run))
