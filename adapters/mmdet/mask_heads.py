"""A cascade whose stages may have a mask branch each."""

from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.model import ModuleDict
from mmengine.structures import InstanceData
from torch import Tensor

from adapters.detector.cascade_stages import scaled_gradient
from adapters.layers.instance_masks import mask_loss, mask_targets, mean_probabilities
from adapters.mmdet.stages import ControlledRoIHeads


@MODELS.register_module()
class MaskRoIHeads(ControlledRoIHeads):
    """Stages with mask branches, each of which trains on the positives of its stage.

    Ground truth has the field ``masks``, uint8 [ground truths, H, W].

    Parameters
    ----------
    mask_test_stage : str
        Label of the test stage whose detections get masks.
    mask_loss_weight : float
        Factor on the loss of every branch.
    keywords
        Of the cascade; ``mask_head`` has the configuration of a branch, ``FCNMaskHead``, by stage, from 1. Of
        MMDetection's class the layers alone are used.
    """

    def __init__(self, mask_test_stage: str, mask_loss_weight: float = 1.0, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.mask_test_stage, self.mask_loss_weight = mask_test_stage, mask_loss_weight

    def init_mask_head(self, mask_roi_extractor: dict[str, Any], mask_head: dict[str, dict[str, Any]]) -> None:
        """Build the branches and the extractor that pools RoIs for all of them."""
        self.mask_roi_extractor = MODELS.build(mask_roi_extractor)
        self.mask_head = ModuleDict({stage: MODELS.build(head) for stage, head in mask_head.items()})

    def mask_features(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """Pool RoIs [R, 5] for the mask branch of a stage, from 1; the gradient goes back with the stage's factor."""
        return scaled_gradient(self._pooled(x, rois), self.trunk_gradient[stage - 1])

    def _pooled(self, x: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        return self.mask_roi_extractor(x[: self.mask_roi_extractor.num_inputs], rois)

    def mask_loss(
        self, stage: int, x: tuple[Tensor, ...], sampling_results: list, batch_gt_instances: list[InstanceData]
    ) -> dict[str, Any]:
        """Loss of a stage, from 0, on its positives; none if it has no branch."""
        name = str(stage + 1)
        if name not in self.mask_head:
            return {"loss_mask": {}}
        pooled = self.mask_features(stage + 1, x, bbox2roi([result.pos_priors for result in sampling_results]))
        logits = self.mask_head[name](pooled)
        labels = torch.cat([result.pos_gt_labels for result in sampling_results])
        wanted = [
            mask_targets(truth.masks, result.pos_priors, result.pos_assigned_gt_inds)
            for result, truth in zip(sampling_results, batch_gt_instances, strict=True)
            if len(result.pos_priors)
        ]
        return {"loss_mask": {"loss_mask": self.mask_loss_weight * mask_loss(logits, labels, wanted)}}

    def mask_logits(self, features: tuple[Tensor, ...], boxes: Tensor) -> list[Tensor]:
        """What every branch gives for boxes of one image."""
        pooled = self._pooled(features, bbox2roi([boxes]))
        return [head(pooled) for head in self.mask_head.values()]

    def mask_probabilities(self, features: tuple[Tensor, ...], boxes: Tensor, labels: Tensor) -> Tensor:
        """Mean of the branches' probabilities for the classes of detections."""
        return mean_probabilities(self.mask_logits(features, boxes), labels)
