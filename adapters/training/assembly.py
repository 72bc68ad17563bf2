"""What a run's training is assembled of; the controls of an inspection are read from the very same objects."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn
from torch.utils.data import DataLoader

from adapters.data.training_dataset import ImageReader, TrainingDataset
from adapters.training.training_session import TrainingSession
from cascadebench.study.run import Run


class Engine(Protocol):
    """A framework's loop, which owns what steps the weights, moves the rate, reads the batches and takes part."""

    optimizer: Any
    schedulers: list
    data_loader: DataLoader
    hooks: list

    def train(self) -> Any:
        """Train from the session's first iteration to the last."""


@dataclass
class Built:
    """A run's objects. Optimizer, schedulers, loader and hooks are those of the engine: the ones that train.

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
