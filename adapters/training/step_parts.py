"""A step in several passes or divided among processes, of which its numbers notice nothing.

Every image is padded to the size that the whole step's batch has; ``shared_sampling.py`` samples it by itself.
"""

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder, resized_shape
from cascadebench.study.run import Run, check_batch_division, check_parts


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
