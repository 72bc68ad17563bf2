"""A step in several passes or divided among processes, of which its numbers notice nothing.

Every image is padded to the size that the whole step's batch has, and its anchors and RoIs are sampled from a random
state of its own.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adapters.training.seeding import seed_torch
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder, resized_shape, sampling_seed
from cascadebench.study.run import Run, check_batch_division, check_parts

RPN, REGRESSION, FIRST_STAGE = 0, 1, 2
"""Numbers of a model's samplers, the same in every framework; those of later stages follow that of the first."""


class ImageSampling:
    """Random states of the sampling in one process.

    Parameters
    ----------
    seed : int
        The run's.
    first_column : int
        Place of this process's first image in the batch of a step.
    """

    def __init__(self, seed: int, first_column: int) -> None:
        self.seed, self.first_column = seed, first_column
        self.begin(0)

    def begin(self, iteration: int) -> None:
        """Begin a step: what is sampled next is its first image, whatever samples it."""
        self.iteration, self._sampled = iteration, Counter()

    def govern(self, owner: Any, method: str, sampler: int) -> None:
        """Let a method that is called for one image after another sample each from that image's own random state.

        Parameters
        ----------
        owner : object
            It gets a method of its own in place of its class's; nothing happens where it has one already.
        sampler : int
            Number of the sampler: :data:`RPN`, :data:`REGRESSION`, :data:`FIRST_STAGE` or above.
        """
        if method in vars(owner):
            return
        sample: Callable = getattr(owner, method)

        @wraps(sample)
        def sample_image(*arguments: Any, **named: Any) -> Any:
            column = self.first_column + self._sampled[sampler]
            self._sampled[sampler] += 1
            seed_torch(sampling_seed(self.seed, self.iteration, column, sampler))
            return sample(*arguments, **named)

        setattr(owner, method, sample_image)


def step_shape(
    records: Sequence[ImageRecord], order: TrainingOrder, position: int, max_long_side: int
) -> tuple[int, int]:
    """Height and width of the smallest picture that holds every image of an item's step as it is resized."""
    step = position // order.images.shape[1]
    shapes = [
        resized_shape(records[index].width, records[index].height, int(short_side), max_long_side)
        for index, short_side in zip(order.images[step], order.short_sides[step], strict=True)
    ]
    return max(height for _, height in shapes), max(width for width, _ in shapes)


def padded_to_step(images: Tensor, shape: tuple[int, int], divisor: int) -> Tensor:
    """Add zeros to normalised images [N, C, H, W] on the right and below, up to a shape that the divisor divides."""
    height, width = (-(-side // divisor) * divisor for side in shape)
    return F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]))


def parts(batch: Sequence, number: int) -> Iterator[Sequence]:
    """Divide what a process reads for a step into equal parts, one for each pass."""
    size = len(batch) // number
    return (batch[start : start + size] for start in range(0, size * number, size))


def check_division(run: Run, model: nn.Module, world_size: int, accumulation: int) -> None:
    """Refuse a division of the batch that cannot be, or in which batch norm would learn from a part of a batch.

    Raises
    ------
    InputError
        If the batch cannot be divided, or if the passes of a step would change its numbers.
    """
    check_batch_division(run, world_size, accumulation, "execution")
    model.train()
    # A class with a forward pass of its own has it in order to learn from something else than its part of the batch.
    learns = [name for name, one in model.named_modules() if type(one).forward is _BatchNorm.forward and one.training]
    if learns:
        check_parts(world_size, accumulation, "execution", f"{run.variant.name} ({learns[0]}); only 1 is allowed")
