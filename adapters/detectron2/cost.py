"""One inference of a Detectron2 detector as parts that fvcore can trace."""

import torch
from detectron2.modeling import GeneralizedRCNN
from torch import Tensor, nn

from cascadebench.detectors.inference_stages import TestStage
from cascadebench.study.run import Run


class _Dense(nn.Module):
    """Backbone, neck and RPN head."""

    def __init__(self, model: GeneralizedRCNN) -> None:
        super().__init__()
        self.backbone, self.generator = model.backbone, model.proposal_generator

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.backbone(image)
        logits, deltas = self.generator.rpn_head([features[name] for name in self.generator.in_features])
        return [*logits, *deltas]


class _Stages(nn.Module):
    """RoIAlign and head of every stage, as far as a test stage needs them."""

    def __init__(self, model: GeneralizedRCNN, size: tuple[int, int], test_stage: TestStage) -> None:
        super().__init__()
        self.heads, self.size, self.test_stage = model.roi_heads, size, test_stage

    def forward(self, rois: Tensor, *features: Tensor) -> list[Tensor]:
        levels = dict(zip(self.heads.box_in_features, features, strict=True))
        outputs = self.heads.run_stages(levels, rois, self.size, [self.test_stage])
        return [*outputs.boxes, *outputs.logits, *outputs.last_logits]


class _Masks(nn.Module):
    """Mask branches on the boxes of detections."""

    def __init__(self, model: GeneralizedRCNN) -> None:
        super().__init__()
        self.heads = model.roi_heads

    def forward(self, boxes: Tensor, *features: Tensor) -> list[Tensor]:
        return self.heads.mask_logits(dict(zip(self.heads.box_in_features, features, strict=True)), boxes)


def trace_parts(model: GeneralizedRCNN, run: Run, width: int, height: int, rois: int) -> list[tuple[nn.Module, tuple]]:
    """Return the dense part with an image and the stages with `rois` boxes spread over sizes, hence over levels.

    Mask branches get as many of these boxes, evenly spread, as there are detections at most.
    """
    shapes = model.backbone.output_shape()
    levels = [shapes[name] for name in model.roi_heads.box_in_features]
    features = [torch.zeros(1, level.channels, height // level.stride, width // level.stride) for level in levels]
    sides = torch.linspace(16, min(width, height), rois)
    boxes = torch.stack([torch.zeros(rois), torch.zeros(rois), sides, sides], 1)
    stages = _Stages(model, (height, width), TestStage.parse(run.variant.headline))
    parts = [(_Dense(model), (torch.zeros(1, 3, height, width),)), (stages, (boxes, *features))]
    if run.variant.masks:
        detections = torch.linspace(0, rois - 1, min(rois, run.protocol.inference.max_detections)).long()
        parts.append((_Masks(model), (boxes[detections], *features)))
    return parts
