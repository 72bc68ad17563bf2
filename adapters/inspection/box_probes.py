"""Probes of anchors, of their matching, and of how deltas become boxes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapters.inspection.control_rows import Row, one_or_all, rounded


def anchor_values(cells: Sequence[Tensor]) -> tuple[Any, Any]:
    """Read sides and aspect ratios of the anchors of one position, float [N, 4] for each level."""
    sizes = [cell[:, 2:] - cell[:, :2] for cell in cells]
    sides = [one_or_all(rounded(size.prod(1).sqrt(), 3)) for size in sizes]
    return sides, one_or_all(rounded(size[:, 1] / size[:, 0]) for size in sizes)


def grid_digest(grid: Tensor) -> str:
    """Hash anchors, float [N, 4]: level by level, row by row, by aspect ratio at each position."""
    # Minus zero has other bytes than zero.
    numbers = np.round(grid.double().numpy(), 3) + 0.0
    return hashlib.sha256(np.ascontiguousarray(numbers).tobytes()).hexdigest()


def low_quality_rows(match: Callable[[Tensor, Tensor], list[int]], read_from: str) -> Iterator[Row]:
    """Probe the rule for ground truth that no anchor overlaps well.

    Parameters
    ----------
    match : callable
        From anchors [N, 4] and ground truth [G, 4] to the number of each anchor's ground truth, from 1; 0 for
        background; -1 for neither.
    """
    truth = torch.tensor([[0.0, 0.0, 100.0, 100.0], [200.0, 0.0, 300.0, 100.0]])
    matched = {}
    for share in (5.0, 35.0):  # of the second ground truth, which its only anchor covers
        anchors = torch.tensor([[0.0, 0.0, 100.0, 100.0], [200.0, 0.0, 200.0 + share, 100.0]])
        matched[share] = match(anchors, truth)[1] == 2
    yield "rpn.low_quality_matches", matched[35], read_from
    yield "rpn.low_quality_floor", 0.0 if matched[5] else 0.3, read_from
    # The first anchor is the first ground truth's; the second overlaps that by .4, and is the best of the second, .35.
    anchors = torch.tensor([[0.0, 0.0, 40.0, 100.0], [0.0, 0.0, 100.0, 100.0]])
    truth = torch.tensor([[0.0, 0.0, 40.0, 100.0], [65.0, 0.0, 100.0, 100.0]])
    names = {1: "its best", 2: "the one it is best for"}
    yield "rpn.low_quality_ground_truth", names.get(match(anchors, truth)[1], "none"), read_from


def delta_clamp(decode: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
    """Probe the least and the greatest factor that deltas put on a side; `decode` gets boxes and deltas [N, 4]."""
    # Great enough to meet the limits whatever the deviations; a box about 0 keeps small sides exact.
    deltas = torch.tensor([[0.0, 0.0, -1000.0, -1000.0], [0.0, 0.0, 1000.0, 1000.0]])
    boxes = decode(torch.tensor([[-8.0, -8.0, 8.0, 8.0]] * 2), deltas)
    sides = (boxes[:, 2:] - boxes[:, :2]) / 16
    return rounded(torch.stack([sides.min(), sides.max()]))
