"""Backbone, neck, and the initial weights."""

from collections.abc import Iterator
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone import FPN, ResNet
from torch import Tensor, nn

from adapters.detectron2.config import FixedStatisticsBatchNorm2d
from adapters.detectron2.controls.control_rows import Row, one_or_all
from adapters.detectron2.weights import common_names
from adapters.training.assembly import Built
from adapters.weights.initial_weights import weights_digest
from cascadebench.detectors.backbone import NORM_GROUPS


def rows(built: Built) -> Iterator[Row]:
    """Yield ``backbone.*``, ``weights.*`` and ``neck.*``."""
    neck, backbone = built.model.backbone, built.model.backbone.bottom_up
    yield "backbone.blocks", [len(stage) for stage in backbone.stages], "backbone.stages"
    yield (
        "backbone.channels",
        [stage[-1].out_channels for stage in backbone.stages],
        "backbone.stages[...].out_channels",
    )
    yield (
        "backbone.inner_channels",
        [stage[-1].conv2.out_channels for stage in backbone.stages],
        "backbone.stages[...].conv2.out_channels",
    )
    groups = one_or_all(block.conv2.groups for stage in backbone.stages for block in stage)
    yield "backbone.groups", groups, "conv2.groups of every block"
    yield "backbone.norm", norm_kinds(backbone), "type of every norm of backbone"
    strides = one_or_all(_strides_in_1x1(stage[0].conv1) for stage in backbone.stages[1:])
    yield "backbone.stride_in_1x1", strides, "kernel and stride of res3, res4, res5 [0].conv1"
    yield (
        "backbone.frozen_parameters", frozen_parameters(backbone),
        "backbone.parameters() without requires_grad, weight and bias of FrozenBatchNorm2d",
    )  # fmt: skip
    yield "backbone.batch_norm", batch_norm_mode(backbone), "type of the norms of what learns"
    weights = built.run.backbone.weights
    yield "backbone.weights_sha256", weights.sha256 if weights else None, "run.backbone.weights.sha256"
    for name, prefixes in (("trunk", ("backbone.", "neck.", "rpn.")), ("first_head", ("heads.1.",))):
        digest = weights_digest(built.model, common_names(built.run), prefixes)
        yield f"weights.{name}_sha256", digest, f"model.state_dict(), common names {', '.join(prefixes)}"
    channels = one_or_all(shape.channels for shape in neck.output_shape().values())
    yield "neck.channels", channels, "model.backbone.output_shape()"
    kinds = sorted({norm_kinds(part) for part in (*neck.lateral_convs, *neck.output_convs)})
    yield "neck.norm", ", ".join(kinds), "type of the norm of every convolution of model.backbone"
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


def norm_kinds(module: nn.Module) -> str:
    """Say what the norms of a module are: batch, group (in as many groups as the library says) or none."""
    kinds = set()
    for one in module.modules():
        if isinstance(one, nn.BatchNorm2d | FrozenBatchNorm2d):
            kinds.add("batch")
        elif isinstance(one, nn.GroupNorm):
            kinds.add("group" if one.num_groups == NORM_GROUPS else f"group of {one.num_groups}")
    return ", ".join(sorted(kinds)) or "none"


def frozen_parameters(backbone: ResNet) -> int:
    """Count the numbers of the backbone that a full training would learn and this one leaves.

    Detectron2 makes buffers of a frozen norm's scale and shift.
    """
    frozen = sum(parameter.numel() for parameter in backbone.parameters() if not parameter.requires_grad)
    norms = [module for module in backbone.modules() if isinstance(module, FrozenBatchNorm2d)]
    return frozen + sum(norm.weight.numel() + norm.bias.numel() for norm in norms)


@torch.no_grad()
def _neck(neck: FPN) -> Iterator[Row]:
    """Run the pyramid once and look at its maps, and at what goes in and out of its convolutions."""
    neck.eval()
    laterals: list[Tensor] = []
    merged: list[Tensor] = []
    with ExitStack() as hooks:
        # From the coarsest level to the finest, as Detectron2 keeps and runs them.
        for lateral, output in zip(neck.lateral_convs, neck.output_convs, strict=True):
            hook = lateral.register_forward_hook(lambda _module, _inputs, given: laterals.append(given.clone()))
            hooks.callback(hook.remove)
            hook = output.register_forward_pre_hook(lambda _module, inputs: merged.append(inputs[0].clone()))
            hooks.callback(hook.remove)
        levels = list(neck(torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))).values())
    yield "neck.levels", len(levels), "probe: maps that model.backbone gives"
    last = "max_pool" if torch.equal(levels[-1], levels[-2][..., ::2, ::2]) else "other"
    yield "neck.last_level", last, "probe: p6 against every second number of p5"
    pairs = zip(merged, laterals[1:], merged[1:], strict=False)
    nearest = all(
        torch.allclose(fine, lateral + F.interpolate(coarse, scale_factor=2, mode="nearest"), atol=1e-5)
        for coarse, lateral, fine in pairs
    )
    yield "neck.top_down", "nearest" if nearest else "other", "probe: what enters the output convolutions"
