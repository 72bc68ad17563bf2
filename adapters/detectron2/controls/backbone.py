"""Backbone, neck, and the initial weights."""

from collections.abc import Iterator

import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone import FPN, ResNet
from torch import nn

from adapters.detectron2.config import FixedStatisticsBatchNorm2d
from adapters.detectron2.weights import common_names
from adapters.inspection.backbone_probes import WEIGHTS, norm_kinds, probe_pyramid
from adapters.inspection.control_rows import Row, one_or_all
from adapters.training.assembly import Built
from adapters.weights.initial_weights import weights_digest

BATCH_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def rows(built: Built) -> Iterator[Row]:
    """Yield ``backbone.*``, ``weights.*`` and ``neck.*``."""
    neck, backbone = built.model.backbone, built.model.backbone.bottom_up
    yield "backbone.blocks", [len(stage) for stage in backbone.stages], "backbone.stages"
    channels = [stage[-1].out_channels for stage in backbone.stages]
    yield "backbone.channels", channels, "backbone.stages[...].out_channels"
    inner = [stage[-1].conv2.out_channels for stage in backbone.stages]
    yield "backbone.inner_channels", inner, "backbone.stages[...].conv2.out_channels"
    groups = one_or_all(block.conv2.groups for stage in backbone.stages for block in stage)
    yield "backbone.groups", groups, "conv2.groups of every block"
    yield "backbone.norm", norm_kinds([backbone], BATCH_NORMS), "type of every norm of backbone"
    strides = one_or_all(_strides_in_1x1(stage[0].conv1) for stage in backbone.stages[1:])
    yield "backbone.stride_in_1x1", strides, "kernel and stride of res3, res4, res5 [0].conv1"
    where = "backbone.parameters() without requires_grad, weight and bias of FrozenBatchNorm2d"
    yield "backbone.frozen_parameters", frozen_parameters(backbone), where
    yield "backbone.batch_norm", batch_norm_mode(backbone), "type of the norms of what learns"
    weights = built.run.backbone.weights
    yield "backbone.weights_sha256", weights.sha256 if weights else None, "run.backbone.weights.sha256"
    for name, prefixes in WEIGHTS.items():
        digest = weights_digest(built.model, common_names(built.run), prefixes)
        yield f"weights.{name}_sha256", digest, f"model.state_dict(), common names {', '.join(prefixes)}"
    yield from _neck(neck)


def _strides_in_1x1(convolution: nn.Conv2d) -> bool:
    return convolution.kernel_size == (1, 1) and convolution.stride == (2, 2)


def batch_norm_mode(backbone: ResNet) -> str:
    """Say how batch norm behaves in the parts that learn: trained, fixed_statistics or frozen; none: there is none."""
    parts = [backbone.stem, *backbone.stages]
    learning = [part for part in parts if any(weight.requires_grad for weight in part.parameters())]
    modes = {_mode(module) for part in learning or parts for module in part.modules()} - {""}
    return ", ".join(sorted(modes)) or "none"


def _mode(module: nn.Module) -> str:
    """Mode of one module; empty if it is no batch norm."""
    if isinstance(module, FrozenBatchNorm2d):
        return "frozen"
    if isinstance(module, FixedStatisticsBatchNorm2d):
        return "fixed_statistics"
    return "trained" if isinstance(module, nn.BatchNorm2d) else ""


def frozen_parameters(backbone: ResNet) -> int:
    """Count the numbers of the backbone that a full training would learn and this one leaves.

    Detectron2 makes buffers of a frozen norm's scale and shift.
    """
    frozen = sum(parameter.numel() for parameter in backbone.parameters() if not parameter.requires_grad)
    norms = [module for module in backbone.modules() if isinstance(module, FrozenBatchNorm2d)]
    return frozen + sum(norm.weight.numel() + norm.bias.numel() for norm in norms)


def _neck(neck: FPN) -> Iterator[Row]:
    neck.eval()
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    # Detectron2 keeps the convolutions from the coarsest level to the finest.
    pyramid = probe_pyramid(lambda: list(neck(image).values()), neck.lateral_convs[::-1], neck.output_convs[::-1])
    channels = one_or_all(shape.channels for shape in neck.output_shape().values())
    yield "neck.channels", channels, "model.backbone.output_shape()"
    kinds = norm_kinds([*neck.lateral_convs, *neck.output_convs], BATCH_NORMS)
    yield "neck.norm", kinds, "type of the norm of every convolution of model.backbone"
    yield "neck.levels", len(pyramid.levels), "probe: maps that model.backbone gives"
    yield "neck.last_level", pyramid.last_level, "probe: p6 against every second number of p5"
    yield "neck.top_down", pyramid.top_down, "probe: what enters the output convolutions"
