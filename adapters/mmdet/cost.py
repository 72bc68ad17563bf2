"""One inference of an MMDetection detector as parts that fvcore can trace."""

import torch
from torch import Tensor, nn

from adapters.mmdet.config import STRIDES
from adapters.mmdet.stages import stage_modules


class _Dense(nn.Module):
    """Backbone, neck and RPN head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> list[Tensor]:
        scores, deltas = self.model.rpn_head(self.model.extract_feat(image))
        return [*scores, *deltas]


class _Stages(nn.Module):
    """RoIAlign and head of every stage."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.extractors = nn.ModuleList(extractor for extractor, _ in stage_modules(model.roi_head))
        self.heads = nn.ModuleList(head for _, head in stage_modules(model.roi_head))

    def forward(self, rois: Tensor, *features: Tensor) -> list[Tensor]:
        outputs = []
        for extractor, head in zip(self.extractors, self.heads, strict=True):
            outputs.extend(head(extractor(features, rois)))
        return outputs


def trace_parts(model: nn.Module, width: int, height: int, rois: int) -> list[tuple[nn.Module, tuple]]:
    """Return the dense part with an image and the stages with `rois` boxes spread over sizes, hence over levels."""
    channels = model.neck.out_channels
    features = tuple(torch.zeros(1, channels, height // stride, width // stride) for stride in STRIDES[:4])
    sides = torch.linspace(16, min(width, height), rois)
    boxes = torch.stack([torch.zeros(rois), torch.zeros(rois), torch.zeros(rois), sides, sides], 1)
    return [(_Dense(model), (torch.zeros(1, 3, height, width),)), (_Stages(model), (boxes, *features))]
