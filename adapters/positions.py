"""Which items of a training one process reads, in which order."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from adapters.training_session import TrainingSession
from cascadebench.training_order import TrainingOrder


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
