"""Which images of a training one process reads, in which order, and the loader that reads them."""

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from adapters.training.training_session import TrainingSession
from cascadebench.core.errors import Fault
from cascadebench.determinism.training_order import TrainingOrder
from cascadebench.execution.interruption import ignore_signals


class StepPositions(Sampler[int]):
    """Positions ``iteration * batch_size + column`` of this process, from the session's first iteration on."""

    def __init__(self, order: TrainingOrder, session: TrainingSession) -> None:
        self.order, self.session = order, session

    def __len__(self) -> int:
        iterations, batch_size = self.order.images.shape
        return (iterations - self.session.start) * batch_size // self.session.world_size

    def __iter__(self) -> Iterator[int]:
        iterations, batch_size = self.order.images.shape
        columns = range(batch_size)[self.session.images_of_rank()]
        for iteration in range(self.session.start, iterations):
            yield from (iteration * batch_size + column for column in columns)


def _collated(collate_fn: Callable, items: list[Any]) -> Any:
    """Make a batch of items, or give back the first fault among them."""
    return next((item for item in items if isinstance(item, Fault)), None) or collate_fn(items)


class FaultTellingLoader(DataLoader):
    """A loader that raises the faults of its items in the process that trains."""

    _reading: Generator | None = None

    def __iter__(self) -> Iterator[Any]:
        self._reading = self._batches()
        return self._reading

    def close(self) -> None:
        """End the processes that read; they ignore the signal by which Python's own end would end them."""
        if self._reading:
            self._reading.close()

    def _batches(self) -> Generator[Any]:
        for batch in super().__iter__():
            if isinstance(batch, Fault):
                raise batch
            yield batch


def training_loader(
    dataset: Dataset, order: TrainingOrder, session: TrainingSession, collate_fn: Callable
) -> DataLoader:
    """Build the loader of this process's batches from the session's first iteration on; the session closes it.

    Parameters
    ----------
    dataset : Dataset
        Item ``iteration * batch_size + column`` is that image of the order, transformed.
    collate_fn : callable
        The framework's way from a list of items to a batch.
    """
    session.loader = FaultTellingLoader(
        dataset,
        batch_size=order.images.shape[1] // session.world_size,
        sampler=StepPositions(order, session),
        num_workers=session.execution.loader_workers,
        collate_fn=partial(_collated, collate_fn),
        # A signal to the whole job must not take the pictures from the step that the training finishes first.
        worker_init_fn=ignore_signals,
        # A loader draws a seed for its workers when its first batch is asked for, inside the first step of a session.
        # From torch's own generator, that would shift the step's random numbers, and only in a resumed training.
        generator=torch.Generator(),
    )
    return session.loader
