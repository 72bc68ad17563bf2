"""Backbone, neck, and the initial weights."""

from collections.abc import Iterator

import torch
from mmdet.models.backbones import ResNet
from torch import nn

from adapters.inspection.backbone_probes import WEIGHTS, norm_kinds, probe_pyramid
from adapters.inspection.control_rows import Row, one_or_all
from adapters.mmdet.weights import common_names
from adapters.training.assembly import Built
from adapters.weights.initial_weights import weights_digest

MAP_SIDES = (16, 8, 4, 2)
"""Sides of the maps that the pyramid is probed with."""


def rows(built: Built) -> Iterator[Row]:
    """Yield ``backbone.*``, ``weights.*`` and ``neck.*``."""
    backbone = built.model.backbone
    layers = [getattr(backbone, name) for name in backbone.res_layers]
    yield "backbone.blocks", [len(layer) for layer in layers], "backbone.res_layers"
    channels = [_convolutions(layer[-1])[-1][0].out_channels for layer in layers]
    yield "backbone.channels", channels, "out_channels of the last convolution of each backbone.res_layers"
    inner = [layer[-1].conv2.out_channels for layer in layers]
    yield "backbone.inner_channels", inner, "conv2.out_channels of the last block of each backbone.res_layers"
    groups = one_or_all(block.conv2.groups for layer in layers for block in layer)
    yield "backbone.groups", groups, "conv2.groups of every block"
    yield "backbone.norm", norm_kinds([backbone]), "type of every norm of backbone"
    first = layers[1][0].conv1
    yield "backbone.stride_in_1x1", first.kernel_size == (1, 1) and first.stride == (2, 2), "backbone.layer2[0].conv1"
    yield "backbone.frozen_parameters", frozen_parameters(backbone), "backbone.parameters() without requires_grad"
    where = "every norm after a learning convolution, after backbone.train()"
    yield "backbone.batch_norm", batch_norm_mode(backbone), where
    weights = built.run.backbone.weights
    yield "backbone.weights_sha256", weights.sha256 if weights else None, "run.backbone.weights, checked when loading"
    for name, prefixes in WEIGHTS.items():
        digest = weights_digest(built.model, common_names(built.run), prefixes)
        yield f"weights.{name}_sha256", digest, "model.state_dict() under common names"
    yield from _neck(built.model.neck)


def frozen_parameters(backbone: ResNet) -> int:
    """Count the numbers of the backbone that a full training would learn and this one leaves."""
    return sum(parameter.numel() for parameter in backbone.parameters() if not parameter.requires_grad)


def _convolutions(block: nn.Module) -> list[tuple[nn.Conv2d, nn.Module]]:
    """Convolutions of a residual block or a shortcut, each with its norm, in the order of the module."""
    convolutions = [module for module in block.children() if isinstance(module, nn.Conv2d)]
    norms = [module for module in block.children() if isinstance(module, nn.BatchNorm2d | nn.GroupNorm)]
    return list(zip(convolutions, norms, strict=True))


def batch_norm_mode(backbone: ResNet) -> str:
    """Say how batch norm behaves in the parts that learn: trained, fixed_statistics or frozen; none: there is none."""
    backbone.train()
    blocks = [block for name in backbone.res_layers for block in getattr(backbone, name)]
    shortcuts = [block.downsample for block in blocks if block.downsample is not None]
    pairs = [(backbone.conv1, backbone.norm1)]
    pairs += [pair for part in (*blocks, *shortcuts) for pair in _convolutions(part)]
    learning = [norm for convolution, norm in pairs if convolution.weight.requires_grad]
    return ", ".join(sorted({_mode(norm) for norm in learning} - {""})) or "none"


def _mode(module: nn.Module) -> str:
    """Mode of one module in training; empty if it is no batch norm."""
    if not isinstance(module, nn.BatchNorm2d):
        return ""
    if module.training:
        return "trained"
    return "fixed_statistics" if module.weight.requires_grad and module.bias.requires_grad else "frozen"


def _neck(neck: nn.Module) -> Iterator[Row]:
    random = torch.Generator().manual_seed(0)
    sizes = zip(neck.in_channels, MAP_SIDES, strict=True)
    maps = [torch.randn(1, channels, side, side, generator=random) for channels, side in sizes]
    pyramid = probe_pyramid(lambda: neck(maps), neck.lateral_convs, neck.fpn_convs)
    yield "neck.channels", one_or_all(level.shape[1] for level in pyramid.levels), "probe: neck()"
    kinds = norm_kinds([*neck.lateral_convs, *neck.fpn_convs])
    yield "neck.norm", kinds, "type of the norm of every convolution of neck"
    yield "neck.levels", len(pyramid.levels), "probe: neck()"
    yield "neck.last_level", pyramid.last_level, "probe: neck(), coarsest level"
    yield "neck.top_down", pyramid.top_down, "probe: neck(), inputs of neck.fpn_convs"
