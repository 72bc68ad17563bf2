"""One inference of an MMDetection detector as parts that fvcore can trace."""

import torch
from torch import Tensor, nn

from adapters.mmdet.config import STRIDES
from cascadebench.detectors.inference_stages import TestStage


class _Dense(nn.Module):
    """Backbone, neck and RPN head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> list[Tensor]:
        scores, deltas = self.model.rpn_head(self.model.extract_feat(image))
        return [*scores, *deltas]


class _Stages(nn.Module):
    """Everything after the proposals that the headline's detections need."""

    def __init__(self, model: nn.Module, headline: TestStage, image_shape: tuple[int, int]) -> None:
        super().__init__()
        self.roi_head, self.headline, self.image_shape = model.roi_head, headline, image_shape

    def forward(self, boxes: Tensor, *features: Tensor) -> list[Tensor]:
        outputs = self.roi_head.run_stages(features, boxes, self.image_shape, [self.headline])
        return [*outputs.boxes, *outputs.logits, *outputs.last_logits]


class _Masks(nn.Module):
    """Mask branches on the boxes of detections."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.roi_head = model.roi_head

    def forward(self, boxes: Tensor, *features: Tensor) -> list[Tensor]:
        return self.roi_head.mask_logits(features, boxes)


def trace_parts(model: nn.Module, headline: str, width: int, height: int, rois: int) -> list[tuple[nn.Module, tuple]]:
    """Return the dense part with an image and the stages with `rois` boxes spread over sizes, hence over levels.

    Mask branches get as many of these boxes, evenly spread, as there are detections at most.
    """
    channels = model.neck.out_channels
    features = tuple(torch.zeros(1, channels, height // stride, width // stride) for stride in STRIDES[:4])
    sides = torch.linspace(16, min(width, height), rois)
    boxes = torch.stack([torch.zeros(rois), torch.zeros(rois), sides, sides], 1)
    stages = _Stages(model, TestStage.parse(headline), (height, width))
    parts = [(_Dense(model), (torch.zeros(1, 3, height, width),)), (stages, (boxes, *features))]
    if model.roi_head.with_mask:
        detections = torch.linspace(0, rois - 1, min(rois, model.test_cfg.rcnn.max_per_img)).long()
        parts.append((_Masks(model), (boxes[detections], *features)))
    return parts
