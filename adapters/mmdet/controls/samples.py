"""Controls of the RoIs that train each classifier and each regressor."""

from collections.abc import Iterator

import torch
from torch import Tensor

from adapters.inspection.probe_inputs import probe_boxes, probe_features, probe_ground_truth
from adapters.mmdet.controls.control_rows import Row
from adapters.mmdet.controls.head_probes import HeadStep, TaskOutput, train_heads, unchanged
from adapters.training.assembly import Built


def sample_rows(built: Built) -> Iterator[Row]:
    """RoIs and positives of both tasks on a fixed batch, head by head."""
    boxes, truth = probe_boxes(), probe_ground_truth()
    # So few proposals that the first stage takes them all, whichever the random sampling draws.
    number = built.model.roi_head.bbox_sampler[0].num // 2
    step, moved = _train(built, boxes[:number], *truth), _train_after_moving(built, number)
    where = "probe: roi_head.loss(), what roi_head.bbox_head[t].loss() gets"
    for prefix, task in (("", "classification"), ("regression_", "regression")):
        counts, after_moving = ([count(output) for output in getattr(one, task)] for one in (step, moved))
        if any(rois != after_moving[0][0] for rois, _ in after_moving):
            # A later stage does not train on what the stage before regressed: these counts say so, the others need not.
            counts = after_moving
        yield f"heads.{prefix}rois_entering", [rois for rois, _ in counts], where
        yield f"heads.{prefix}positives_entering", [positives for _, positives in counts], where


def count(output: TaskOutput) -> tuple[int, int]:
    """RoIs, and positives among them."""
    return len(output.positive), int(output.positive.sum())


@torch.no_grad()
def _train(built: Built, proposals: Tensor, truth: Tensor, labels: Tensor) -> HeadStep:
    """Train the heads for one step on two images of the same boxes."""
    features = probe_features(built.model.neck.out_channels)
    return train_heads(built.model.roi_head, features, proposals, truth, labels)


def _train_after_moving(built: Built, number: int) -> HeadStep:
    """Train where the first stage moves every proposal onto the ground truth: more than any share of positives."""
    head = built.model.roi_head.bbox_head[0]
    truth = torch.tensor([[40.0, 40.0, 80.0, 80.0]])
    proposals = torch.tensor([[24.0, 40.0, 64.0, 80.0]]).repeat(number, 1)  # IoU .43
    with unchanged(head):
        head.fc_reg.bias.detach().view(-1, 4)[:, 0] += 0.4 / head.bbox_coder.stds[0]  # .4 of a box to the right
        return _train(built, proposals, truth, torch.zeros(1, dtype=torch.long))
