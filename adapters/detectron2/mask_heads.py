"""A cascade whose stages may have a mask branch each."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor, nn

from adapters.detector.cascade_stages import scaled_gradient
from adapters.detectron2.stages import ControlledRoIHeads
from adapters.layers.instance_masks import mask_loss, mask_targets, mean_probabilities


class MaskRoIHeads(ControlledRoIHeads):
    """Stages with mask branches, each of which trains on the positives of its stage.

    Ground truth has the field ``bitmaps``, uint8 [ground truths, H, W].

    Parameters
    ----------
    mask_stages : sequence of int
        Stages, from 1, with a mask branch.
    mask_pooler : ROIPooler
        Pools RoIs for all branches.
    mask_heads : sequence of MaskRCNNConvUpsampleHead
        The branches; of Detectron2's class the layers alone are used.
    mask_test_stage : str
        Label of the test stage whose detections get masks.
    mask_loss_weight : float
        Factor on the loss of every branch.
    """

    def __init__(
        self,
        *,
        mask_stages: Sequence[int],
        mask_pooler: ROIPooler,
        mask_heads: Sequence[MaskRCNNConvUpsampleHead],
        mask_test_stage: str,
        mask_loss_weight: float = 1.0,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.mask_pooler = mask_pooler
        self.mask_heads = nn.ModuleDict(zip(map(str, mask_stages), mask_heads, strict=True))
        self.mask_test_stage, self.mask_loss_weight = mask_test_stage, mask_loss_weight
        self._entered: list[list[Instances]] = []  # labelled RoIs of every stage of the step that is under way

    def forward(
        self, images: Any, features: dict[str, Tensor], proposals: list[Instances], targets: Any = None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Train a step, or detect; in training every proposal learns which ground truth it belongs to."""
        for target in targets or ():
            # Detectron2 hands fields of this prefix from ground truth to sampled proposals; bitmaps would be too large.
            target.gt_positions = torch.arange(len(target), device=target.gt_classes.device)
        return super().forward(images, features, proposals, targets)

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances], targets: list[Instances] | None = None
    ) -> Any:
        self._entered.clear()
        found = super()._forward_box(features, proposals, targets)
        if self.training:
            levels = [features[name] for name in self.box_in_features]
            for stage in map(int, self.mask_heads):
                loss = self._mask_loss(stage, levels, self._entered[stage - 1], targets)
                found[f"loss_mask_stage{stage - 1}"] = loss
        self._entered.clear()
        return found

    def _run_stage(
        self, features: list[Tensor], proposals: list[Instances], stage: int
    ) -> tuple[Tensor | None, Tensor | None]:
        self._entered.append(proposals)
        return super()._run_stage(features, proposals, stage)

    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        labelled = super()._match_and_label_boxes(proposals, stage, targets)
        for image, target in zip(labelled, targets, strict=True):
            if len(target):
                image.gt_positions = self.proposal_matchers[stage](pairwise_iou(target.gt_boxes, image.proposal_boxes))[
                    0
                ]
        return labelled

    def mask_features(self, stage: int, levels: list[Tensor], boxes: list[Boxes]) -> Tensor:
        """Pool RoIs for a stage's mask branch; the stage's share of the gradient flows back."""
        return scaled_gradient(self.mask_pooler(levels, boxes), self.trunk_gradient[stage - 1])

    def _mask_loss(
        self, stage: int, levels: list[Tensor], proposals: list[Instances], targets: list[Instances]
    ) -> Tensor:
        boxes, labels, wanted = [], [], []
        for image, target in zip(proposals, targets, strict=True):
            positive = image[(image.gt_classes >= 0) & (image.gt_classes < self.num_classes)]
            boxes.append(positive.proposal_boxes)
            labels.append(positive.gt_classes)
            if len(positive):
                wanted.append(mask_targets(target.bitmaps, positive.proposal_boxes.tensor, positive.gt_positions))
        logits = self.mask_heads[str(stage)].layers(self.mask_features(stage, levels, boxes))
        return self.mask_loss_weight * mask_loss(logits, torch.cat(labels), wanted)

    def mask_logits(self, features: dict[str, Tensor], boxes: Tensor) -> list[Tensor]:
        """What every branch gives for boxes of one image."""
        pooled = self.mask_pooler([features[name] for name in self.box_in_features], [Boxes(boxes)])
        return [head.layers(pooled) for head in self.mask_heads.values()]

    def mask_probabilities(self, features: dict[str, Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Mean of the branches' probabilities for the classes of detections."""
        return mean_probabilities(self.mask_logits(features, boxes), labels)
