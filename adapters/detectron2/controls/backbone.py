"""Backbone, neck, and the initial weights."""

from collections.abc import Iterator

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from adapters.detectron2.config import FixedStatisticsBatchNorm2d
from adapters.detectron2.weights import common_name
from adapters.inspection.backbone_probes import backbone_rows, neck_rows, weight_rows
from adapters.inspection.control_rows import Row, one_or_all
from adapters.training.assembly import Built

BATCH_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def rows(built: Built) -> Iterator[Row]:
    """Yield ``backbone.*``, ``weights.*`` and ``neck.*``."""
    neck, backbone = built.model.backbone, built.model.backbone.bottom_up
    parts = [backbone.stem, *backbone.stages]
    yield from backbone_rows(built, backbone, parts, BATCH_NORMS, batch_norm_mode, "backbone.stages")
    yield from weight_rows(built, common_name)
    channels = one_or_all(shape.channels for shape in neck.output_shape().values())
    yield "neck.channels", channels, "model.backbone.output_shape()"
    neck.eval()
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    # Detectron2 keeps the convolutions from the coarsest level to the finest.
    laterals, outputs = neck.lateral_convs[::-1], neck.output_convs[::-1]
    yield from neck_rows(lambda: list(neck(image).values()), laterals, outputs, BATCH_NORMS)


def batch_norm_mode(norm: nn.Module) -> str:
    """Say how a batch norm behaves in training, by its type: trained, fixed_statistics or frozen."""
    if isinstance(norm, FrozenBatchNorm2d):
        return "frozen"
    return "fixed_statistics" if isinstance(norm, FixedStatisticsBatchNorm2d) else "trained"
