"""What enters every stage in a step of training: overlaps and regression targets; the same in every framework.

RoI heads have an attribute ``recording``: None, or on a step that is recorded the object that they tell, before they
match and sample, which boxes enter a stage. It computes from copies of these boxes and draws nothing, so a training is
the same with and without it.
"""

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from cascadebench.diagnostics.observations import StageTraining


class StageRecording:
    """RoIs of one step of training that enter each stage.

    Parameters
    ----------
    stages : int
        Regressors in a row that are trained.
    first_threshold : float
        IoU from which a RoI is positive in the first stage.
    """

    def __init__(self, stages: int, first_threshold: float) -> None:
        self._first_threshold = first_threshold
        nothing = StageTraining(np.zeros(0, np.float32), np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        self._images = [[nothing] for _ in range(stages)]

    @torch.no_grad()
    def add(self, stage: int, rois: Tensor, ground_truth: Tensor) -> None:
        """Note what enters a stage from one image.

        Parameters
        ----------
        stage : int
            From 0.
        rois, ground_truth : Tensor, float32 [R, 4] and [G, 4]
            x1, y1, x2, y2 in pixels of the resized image; no ground truth was added to the RoIs yet.
        """
        ious, best = best_overlaps(rois, ground_truth)
        near = ious >= self._first_threshold
        targets = box_deltas(rois[near], ground_truth[best[near]])
        seen = (part.cpu().numpy() for part in (ious, targets, ious[near]))
        self._images[stage].append(StageTraining(*seen))

    def stages(self) -> list[StageTraining]:
        """Return every stage with the RoIs of all images."""
        names = ("ious", "targets", "target_ious")
        return [StageTraining(*(np.concatenate([getattr(one, name) for one in images]) for name in names))
                for images in self._images]  # fmt: skip


def best_overlaps(rois: Tensor, ground_truth: Tensor) -> tuple[Tensor, Tensor]:
    """Highest IoU of each RoI with the ground truth, 0 without any, and its place: float [R], int64 [R]."""
    if not len(ground_truth):
        return rois.new_zeros(len(rois)), torch.zeros(len(rois), dtype=torch.long, device=rois.device)
    return box_iou(rois, ground_truth).max(dim=1)


def box_deltas(boxes: Tensor, targets: Tensor) -> Tensor:
    """dx, dy, dw, dh from boxes to their targets, float [P, 4]: shifts in sides of the box, logarithms of factors."""
    sides, target_sides = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    shift = (targets[:, :2] + targets[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2
    return torch.cat([shift / sides, (target_sides / sides).log()], dim=1)
