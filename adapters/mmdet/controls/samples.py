"""Controls of the RoIs that enter each stage in training."""

from collections.abc import Iterator, Sequence

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from adapters.mmdet.built import Built
from adapters.mmdet.controls.rows import Row
from adapters.mmdet.stages import stage_modules
from adapters.probe_inputs import probe_boxes, probe_features, probe_ground_truth

Counts = list[tuple[int, int]]
"""RoIs of a batch, and positives among them, stage by stage."""


def sample_rows(built: Built) -> Iterator[Row]:
    """RoIs and positives of every stage on a fixed batch."""
    boxes, truth = probe_boxes(), probe_ground_truth()
    # So few proposals that the first stage takes them all, whichever the random sampling draws.
    number = _first_sampler(built).num // 2
    counts = entering(built, boxes[:number], *truth)
    moved = entering_after_moving(built, number)
    if any(rois != moved[0][0] for rois, _ in moved):
        # A later stage does not train on what the stage before regressed: these counts say so, the others need not.
        counts = moved
    where = "probe: roi_head.loss(), what bbox_loss() gets"
    yield "heads.rois_entering", [rois for rois, _ in counts], where
    yield "heads.positives_entering", [positives for _, positives in counts], where


def _first_sampler(built: Built):
    """The sampler of the first stage."""
    sampler = built.model.roi_head.bbox_sampler
    return sampler[0] if isinstance(sampler, list) else sampler


@torch.no_grad()
def entering(built: Built, proposals: Tensor, truth: Tensor, labels: Tensor) -> Counts:
    """Train the heads for one step on two images of the same boxes, and count."""
    roi_head = built.model.roi_head
    bbox_loss, counts = roi_head.bbox_loss, []

    def counting(*arguments):
        results: Sequence = arguments[-1]  # in a cascade the stage's number comes first
        counts.append((sum(len(one.priors) for one in results), sum(len(one.pos_priors) for one in results)))
        return bbox_loss(*arguments)

    classes = stage_modules(roi_head)[0][1].num_classes
    samples = [_sample(truth, labels % classes) for _ in range(2)]
    torch.manual_seed(0)
    roi_head.bbox_loss = counting
    try:
        features = tuple(probe_features(built.model.neck.out_channels))
        roi_head.loss(features, [InstanceData(bboxes=proposals.clone()) for _ in samples], samples)
    finally:
        del roi_head.bbox_loss
    return counts


def _sample(truth: Tensor, labels: Tensor) -> DetDataSample:
    """An image of 128 x 128 pixels with ground truth."""
    sample = DetDataSample(metainfo={"img_shape": (128, 128), "pad_shape": (128, 128)})
    sample.gt_instances = InstanceData(bboxes=truth.clone(), labels=labels)
    sample.ignored_instances = InstanceData(bboxes=truth[:0], labels=labels[:0])
    return sample


@torch.no_grad()
def entering_after_moving(built: Built, number: int) -> Counts:
    """Count where the first stage moves every proposal onto the ground truth: a share of positives would be exceeded.

    The regressor's bias is put back.
    """
    head = stage_modules(built.model.roi_head)[0][1]
    kept = head.fc_reg.bias.clone()
    head.fc_reg.bias.view(-1, 4)[:, 0] += 0.4 / head.bbox_coder.stds[0]  # .4 of a box to the right
    truth = torch.tensor([[40.0, 40.0, 80.0, 80.0]])
    proposals = torch.tensor([[24.0, 40.0, 64.0, 80.0]]).repeat(number, 1)  # IoU .43
    counts = entering(built, proposals, truth, torch.zeros(1, dtype=torch.long))
    head.fc_reg.bias.copy_(kept)
    return counts
