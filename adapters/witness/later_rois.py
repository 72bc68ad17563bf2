"""What passes from one regressor to the next in training, against a plain computation from the variant's options."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from adapters.inspection.head_probes import IMAGE, TaskOutput
from adapters.inspection.probe_inputs import probe_ground_truth
from adapters.witness.quantities import unordered
from adapters.witness.subject import Subject
from cascadebench.controls.witness import Quantity


def passing_quantities(subject: Subject) -> Iterator[Quantity]:
    """Note the RoIs of every later regressor in the heads' training step."""
    run = subject.built.run
    truth, labels = probe_ground_truth()
    step = subject.framework.probed_heads(subject.built).step
    for before, after in pairwise(step.regression):
        stds = subject.controls["heads.target_stds"][before.head]
        rois = plain_rois(run.variant.options, stds, before, truth, labels % len(run.dataset.categories))
        wanted = None if rois is None or not subject.aligned else unordered(rois.T)
        name = f"RoIs that enter regressor {after.head + 1}"
        yield Quantity(step="losses of the heads", name=name, value=unordered(after.rois.T), wanted=wanted)


def plain_rois(
    options: Mapping[str, Any], stds: tuple[float, ...], before: TaskOutput, truth: Tensor, labels: Tensor
) -> Tensor | None:
    """RoIs [R, 5] that follow from a regressor's; None where a class is predicted of which nothing is noted."""
    images, boxes, deltas = before.rois[:, :1], before.rois[:, 1:], before.values
    overlap, best = box_iou(boxes, truth).max(1)
    apart = "nms_reg" in options  # regressors train on RoIs of their own
    if deltas.shape[1] > 4:
        if options.get("moved_by") != "ground_truth_class":
            return None
        deltas = deltas.reshape(len(boxes), -1, 4)[torch.arange(len(boxes)), labels[best]]
    moved = plain_boxes(boxes, deltas * torch.tensor(stds))
    if apart:
        moved = torch.where(before.positive[:, None], moved, boxes)
    keep = (moved[:, 2:] > moved[:, :2]).all(1)
    if options.get("later_ground_truth") != "dropped_and_added":
        return torch.cat([images, moved], 1)[keep]
    rois = torch.cat([images, moved], 1)[keep & (overlap < 1)]
    added = [torch.cat([truth.new_full((len(truth), 1), image), truth], 1) for image in images.unique()]
    return torch.cat([rois, *added])


def plain_boxes(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes [R, 4] moved by deltas [R, 4] in sides of a box, and cut at the border of the probes' image."""
    sides = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 + deltas[:, :2] * sides
    half = sides * deltas[:, 2:].exp() / 2
    height, width = IMAGE
    return torch.cat([middle - half, middle + half], 1).clamp(min=0).minimum(torch.tensor([width, height] * 2))
