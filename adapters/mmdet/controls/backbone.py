"""Controls of the residual network and of the pyramid."""

from collections.abc import Iterator

import torch
from mmdet.models.backbones import ResNet
from torch import Tensor, nn
from torch.nn import functional

from adapters.mmdet.controls.control_rows import Row, one_value
from adapters.mmdet.weights import common_names
from adapters.training.assembly import Built
from adapters.weights.initial_weights import weights_digest
from cascadebench.detectors.backbone import NORM_GROUPS

MAP_SIDES = (16, 8, 4, 2)
"""Sides of the maps that the pyramid is probed with."""


def backbone_rows(built: Built) -> Iterator[Row]:
    """Architecture, frozen part, batch norm and weights."""
    backbone = built.model.backbone
    layers = [getattr(backbone, name) for name in backbone.res_layers]
    yield "backbone.blocks", [len(layer) for layer in layers], "backbone.res_layers"
    channels = [_convolutions(layer[-1])[-1][0].out_channels for layer in layers]
    yield "backbone.channels", channels, "out_channels of the last convolution of each backbone.res_layers"
    inner = [layer[-1].conv2.out_channels for layer in layers]
    yield "backbone.inner_channels", inner, "conv2.out_channels of the last block of each backbone.res_layers"
    groups = one_value(block.conv2.groups for layer in layers for block in layer)
    yield "backbone.groups", groups, "conv2.groups of every block"
    yield "backbone.norm", norm_kinds(backbone), "type of every norm of backbone"
    first = layers[1][0].conv1
    yield "backbone.stride_in_1x1", first.kernel_size == (1, 1) and first.stride == (2, 2), "backbone.layer2[0].conv1"
    frozen = sum(parameter.numel() for parameter in backbone.parameters() if not parameter.requires_grad)
    yield "backbone.frozen_parameters", frozen, "backbone.parameters() without requires_grad"
    where = "every norm after a learning convolution, after backbone.train()"
    yield "backbone.batch_norm", batch_norm_mode(backbone), where
    weights = built.run.backbone.weights
    yield "backbone.weights_sha256", weights.sha256 if weights else None, "run.backbone.weights, checked when loading"
    for name, prefixes in (("trunk", ("backbone.", "neck.", "rpn.")), ("first_head", ("heads.1.",))):
        digest = weights_digest(built.model, common_names(built.run), prefixes)
        yield f"weights.{name}_sha256", digest, "model.state_dict() under common names"


def _convolutions(block: nn.Module) -> list[tuple[nn.Conv2d, nn.Module]]:
    """Convolutions of a residual block or a shortcut, each with its norm, in the order of the module."""
    convolutions = [module for module in block.children() if isinstance(module, nn.Conv2d)]
    norms = [module for module in block.children() if isinstance(module, nn.BatchNorm2d | nn.GroupNorm)]
    return list(zip(convolutions, norms, strict=True))


def batch_norm_mode(backbone: ResNet) -> str:
    """Say how batch norm behaves in training, where convolutions learn: trained, fixed_statistics, frozen or none."""
    backbone.train()
    blocks = [block for name in backbone.res_layers for block in getattr(backbone, name)]
    shortcuts = [block.downsample for block in blocks if block.downsample is not None]
    pairs = [(backbone.conv1, backbone.norm1)]
    pairs += [pair for part in (*blocks, *shortcuts) for pair in _convolutions(part)]
    learning = [norm for convolution, norm in pairs if convolution.weight.requires_grad]
    return ", ".join(sorted({_norm_mode(norm) for norm in learning if isinstance(norm, nn.BatchNorm2d)})) or "none"


def norm_kinds(module: nn.Module) -> str:
    """Say what the norms of a module are: batch, group (in as many groups as the library says) or none."""
    kinds = set()
    for one in module.modules():
        if isinstance(one, nn.BatchNorm2d):
            kinds.add("batch")
        elif isinstance(one, nn.GroupNorm):
            kinds.add("group" if one.num_groups == NORM_GROUPS else f"group of {one.num_groups}")
    return ", ".join(sorted(kinds)) or "none"


def _norm_mode(norm: nn.Module) -> str:
    if norm.training:
        return "trained"
    return "fixed_statistics" if norm.weight.requires_grad and norm.bias.requires_grad else "frozen"


def neck_rows(built: Built) -> Iterator[Row]:
    """Levels of the pyramid and how they follow from each other."""
    neck = built.model.neck
    maps, merged, outputs = pyramid(neck)
    yield "neck.channels", one_value(output.shape[1] for output in outputs), "probe: neck()"
    kinds = sorted({norm_kinds(part) for part in (*neck.lateral_convs, *neck.fpn_convs)})
    yield "neck.norm", ", ".join(kinds), "type of the norm of every convolution of neck"
    yield "neck.levels", len(outputs), "probe: neck()"
    pooled = len(outputs) > 1 and torch.equal(outputs[-1], outputs[-2][:, :, ::2, ::2])
    yield "neck.last_level", "max_pool" if pooled else "other", "probe: neck(), coarsest level"
    is_nearest = all(
        torch.allclose(merged[level] - lateral(maps[level]), _enlarged(merged[level + 1], maps[level]), atol=1e-4)
        for level, lateral in enumerate(neck.lateral_convs[:-1])
    )
    yield "neck.top_down", "nearest" if is_nearest else "other", "probe: neck(), inputs of neck.fpn_convs"


@torch.no_grad()
def pyramid(neck: nn.Module) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Run the pyramid on fixed maps; return the maps, the levels before their last convolution, and the outputs."""
    random = torch.Generator().manual_seed(0)
    sizes = zip(neck.in_channels, MAP_SIDES, strict=True)
    maps = [torch.randn(1, channels, side, side, generator=random) for channels, side in sizes]
    merged: list[Tensor] = []
    hooks = [conv.register_forward_pre_hook(lambda _, inputs: merged.append(inputs[0])) for conv in neck.fpn_convs]
    outputs = neck(maps)
    for hook in hooks:
        hook.remove()
    return maps, merged, list(outputs)


def _enlarged(coarse: Tensor, like: Tensor) -> Tensor:
    """Nearest-neighbour enlargement."""
    return functional.interpolate(coarse, size=like.shape[-2:], mode="nearest")
