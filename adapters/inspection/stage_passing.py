"""Probes of what passes from one head to the next in training: boxes, and the gradient of what is borrowed."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from adapters.inspection.control_rows import Row, one_or_all
from adapters.inspection.head_probes import IMAGE, ProbedHeads
from adapters.inspection.probe_inputs import probe_ground_truth

RULES = {(False, False): "regressed", (True, True): "dropped_and_added", (True, False): "dropped"}
"""What is done with ground truth, by whether its regressed copies are dropped and whether it is added again."""


def passing_rows(probes: ProbedHeads) -> Iterator[Row]:
    """Yield ``heads.later_ground_truth``, ``heads.moved_by`` and ``heads.borrowed_gradient``."""
    read_from = "probe: what the losses of a step get"
    yield "heads.later_ground_truth", later_ground_truth(probes), read_from
    yield "heads.moved_by", moved_by(probes), read_from
    yield "heads.borrowed_gradient", borrowed_gradient(probes.module), "sharing.borrowed_gradient of the heads"


def later_ground_truth(probes: ProbedHeads) -> str | list[str]:
    """Say what later regressors train on of the ground truth; regressed where there is no later one."""
    truth, _ = probe_ground_truth()
    rules = []
    for before, after in pairwise(probes.step.regression):
        copies, added = (int(_found(one.rois[:, 1:], truth).sum()) for one in (before, after))
        dropped = len(after.rois) < len(before.rois) + added
        rules.append(RULES.get((dropped and copies > 0, added > 0), "added"))
    return one_or_all(rules or ["regressed"])


def _found(boxes: Tensor, among: Tensor) -> Tensor:
    """Whether each box [R, 4] is exactly one of others [G, 4]."""
    return (boxes[:, None] == among).all(-1).any(1)


@torch.no_grad()
def moved_by(probes: ProbedHeads) -> str:
    """Say whose box a positive of a regressor per class passes on; none: there is one box, or no later regressor."""
    first, *later = probes.step.regression
    if not later or first.values.shape[1] == 4:
        return "none"
    truth, labels = probe_ground_truth()
    boxes = first.rois[first.positive, 1:]
    wanted = labels[box_iou(boxes, truth).argmax(1)]
    decoded = probes.module.decoded(0, boxes, first.values[first.positive], IMAGE).reshape(len(boxes), -1, 4)
    # The class whose box is nearest to one that entered the second stage.
    distances = (decoded[:, :, None] - later[0].rois[:, 1:]).abs().amax(-1).amin(-1)
    return "ground_truth_class" if torch.equal(distances.argmin(1), wanted) else "predicted_class"


def borrowed_gradient(heads: nn.Module) -> float | list[list[float]]:
    """Factors on the gradient in borrowed layers, per stage; one number where all are equal, 1 where none borrows."""
    sharing = getattr(heads, "sharing", None)
    factors = getattr(sharing, "borrowed_gradient", [[1.0]])
    values = {factor for stage in factors for factor in stage}
    return values.pop() if len(values) == 1 else factors
