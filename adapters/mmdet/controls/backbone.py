"""Backbone, neck, and the initial weights."""

from collections.abc import Iterator

import torch
from torch import nn

from adapters.inspection.backbone_probes import backbone_rows, neck_rows, weight_rows
from adapters.inspection.control_rows import Row, one_or_all
from adapters.mmdet.weights import common_name
from adapters.training.assembly import Built

BATCH_NORMS = (nn.BatchNorm2d,)
MAP_SIDES = (16, 8, 4, 2)
"""Sides of the maps that the pyramid is probed with."""


def rows(built: Built) -> Iterator[Row]:
    """Yield ``backbone.*``, ``weights.*`` and ``neck.*``."""
    backbone, neck = built.model.backbone, built.model.neck
    backbone.train()
    stem = nn.ModuleList([backbone.conv1, backbone.norm1])
    parts = [stem, *(getattr(backbone, name) for name in backbone.res_layers)]
    yield from backbone_rows(built, backbone, parts, BATCH_NORMS, batch_norm_mode, "backbone.res_layers")
    yield from weight_rows(built, common_name)
    channels = one_or_all(one.conv.out_channels for one in neck.fpn_convs)
    yield "neck.channels", channels, "neck.fpn_convs[level].conv.out_channels"
    random = torch.Generator().manual_seed(0)
    sizes = zip(neck.in_channels, MAP_SIDES, strict=True)
    maps = [torch.randn(1, channels, side, side, generator=random) for channels, side in sizes]
    yield from neck_rows(lambda: neck(maps), neck.lateral_convs, neck.fpn_convs, BATCH_NORMS)


def batch_norm_mode(norm: nn.BatchNorm2d) -> str:
    """Say how a batch norm behaves in training: trained, fixed_statistics or frozen."""
    if norm.training:
        return "trained"
    return "fixed_statistics" if norm.weight.requires_grad and norm.bias.requires_grad else "frozen"
