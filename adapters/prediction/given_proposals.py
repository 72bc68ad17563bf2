"""Proposals that take the place of the RPN's at test, or stand beside them; the same in every framework.

The question is that of Cai and Vasconcelos, Cascade R-CNN, TPAMI 2019, Fig. 7: what does a detector of high IoU lose
because its proposals are not better.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cascadebench.datasets.prepared import ImageRecord


@dataclass(frozen=True)
class GivenProposals:
    """Proposals from outside of a detector.

    Attributes
    ----------
    of : callable
        From a record to its proposals, float32 [R, 4]: x1, y1, x2, y2 in pixels of the original image.
    keep_own : bool
        Whether they stand beside those of the RPN, which they follow, or in their place.
    """

    of: Callable[[ImageRecord], np.ndarray]
    keep_own: bool


GROUND_TRUTH = GivenProposals(of=lambda record: record.boxes, keep_own=True)
"""The ground truth of an image, crowd regions left out, added to its proposals."""


def swapped(
    boxes: Tensor, objectness: Tensor, given: GivenProposals | None, record: ImageRecord, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Let given proposals, which have the objectness 1, take part.

    Parameters
    ----------
    boxes : Tensor, float32 [R, 4]
        Proposals of the RPN in pixels of the resized image.
    objectness : Tensor, float32 [R]
        In [0, 1].
    given : GivenProposals or None
        None: those of the RPN alone.
    size : tuple of int
        Height and width of the resized image.

    Returns
    -------
    boxes [R', 4], objectness [R']
        Inside the image; given boxes without an area are dropped.
    """
    if given is None:
        return boxes, objectness
    height, width = size
    factors = boxes.new_tensor([width / record.width, height / record.height]).repeat(2)
    added = torch.from_numpy(given.of(record)).to(boxes) * factors
    added = torch.minimum(added.clamp(min=0), boxes.new_tensor([width, height]).repeat(2))
    added = added[(added[:, 2:] > added[:, :2]).all(dim=1)]
    if not given.keep_own:
        boxes, objectness = boxes[:0], objectness[:0]
    return torch.cat([boxes, added]), torch.cat([objectness, objectness.new_ones(len(added))])
