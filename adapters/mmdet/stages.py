"""The stages of a cascade under control: how they train, and everything that they give at test time."""

from typing import Any

import torch
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from adapters.score_rules import StageOutputs


@MODELS.register_module()
class ControlledCascadeBoxHead(Shared2FCBBoxHead):
    """A head that passes on every box it regressed, those that began as ground truth too, and drops empty ones."""

    def refine_bboxes(
        self, sampling_results: list, bbox_results: dict[str, Any], batch_img_metas: list[dict]
    ) -> list[InstanceData] | None:
        """Regress the RoIs of a training step, image by image; None if there are none."""
        for result in sampling_results:
            # MMDetection would drop the RoIs that were ground truth here and add the ground truth itself again later.
            result.pos_is_gt = torch.zeros_like(result.pos_is_gt)
        refined = super().refine_bboxes(sampling_results, bbox_results, batch_img_metas)
        if refined is None:
            return None
        sides = [instances.bboxes[:, 2:] - instances.bboxes[:, :2] for instances in refined]
        # Instances refuse a value of another length; these are indexed as a whole.
        return [instances[(side > 0).all(dim=1)] for instances, side in zip(refined, sides, strict=True)]


@MODELS.register_module()
class ControlledCascadeRoIHead(CascadeRoIHead):
    """A cascade whose stages' weights act on the trunk's gradient alone.

    Parameters
    ----------
    trunk_gradient : list of float
        For every stage the factor on the gradient that flows from its pooled features into neck and backbone.
    """

    def __init__(self, trunk_gradient: list[float], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.trunk_gradient = trunk_gradient

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Tensor]:
        extractor = self.bbox_roi_extractor[stage]
        features = extractor(x[: extractor.num_inputs], rois)
        if features.requires_grad:
            features.register_hook(lambda gradient: gradient * self.trunk_gradient[stage])
        scores, deltas = self.bbox_head[stage](features)
        return {"cls_score": scores, "bbox_pred": deltas, "bbox_feats": features}


def stage_modules(roi_head: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """RoI extractor and box head of every stage; a head that is no cascade has one stage."""
    if isinstance(roi_head.bbox_head, nn.ModuleList):
        return list(zip(roi_head.bbox_roi_extractor, roi_head.bbox_head, strict=True))
    return [(roi_head.bbox_roi_extractor, roi_head.bbox_head)]


def run_stages(
    roi_head: nn.Module, features: tuple[Tensor, ...], proposals: Tensor, image_shape: tuple[int, int]
) -> StageOutputs:
    """Run every stage on one image; nothing is filtered between stages, so that row n is proposal n throughout.

    Parameters
    ----------
    proposals : Tensor, float [R, 4]
        In pixels of the resized image.
    image_shape : tuple of int
        Height and width of the resized image without padding.
    """
    modules = stage_modules(roi_head)
    boxes, logits, last_logits = [], [], []
    entering = proposals
    for number, (extractor, head) in enumerate(modules, start=1):
        pooled = extractor(
            features[: extractor.num_inputs], torch.cat([entering.new_zeros(len(entering), 1), entering], 1)
        )
        scores, deltas = head(pooled)
        decoded = head.bbox_coder.decode(entering, deltas, max_shape=image_shape)
        boxes.append(decoded)
        logits.append(scores)
        if number == len(modules):
            last_logits = [other(pooled)[0] for _, other in modules[:-1]] + [scores]
        entering = decoded
    return StageOutputs(boxes, logits, last_logits)
