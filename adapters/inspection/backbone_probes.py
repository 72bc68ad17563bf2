"""Controls of a residual network, of the initial weights, and of what a feature pyramid does with its maps."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters.inspection.control_rows import Row, one_or_all
from adapters.weights.initial_weights import weights_digest
from adapters.weights.weight_names import with_own_names
from cascadebench.detectors.backbone import NORM_GROUPS

WEIGHTS = {"trunk": ("backbone.", "neck.", "rpn."), "first_head": ("heads.1.",)}
"""Parts of a detector whose initial weights are hashed, by beginnings of their common names."""


def norm_kinds(modules: Iterable[nn.Module], batch_norms: tuple[type[nn.Module], ...]) -> str:
    """Say what norms each of some modules has: batch, group (in as many groups as the library says) or none."""
    return ", ".join(sorted({_norm_kinds(module, batch_norms) for module in modules}))


def _norm_kinds(module: nn.Module, batch_norms: tuple[type[nn.Module], ...]) -> str:
    kinds = set()
    for part in module.modules():
        if isinstance(part, batch_norms):
            kinds.add("batch")
        elif isinstance(part, nn.GroupNorm):
            kinds.add("group" if part.num_groups == NORM_GROUPS else f"group of {part.num_groups}")
    return ", ".join(sorted(kinds)) or "none"


def backbone_rows(
    built: Any,
    backbone: nn.Module,
    parts: Sequence[nn.Module],
    batch_norms: tuple[type[nn.Module], ...],
    mode: Callable[[nn.Module], str],
    where: str,
) -> Iterator[Row]:
    """Yield ``backbone.*`` of a residual network.

    Parameters
    ----------
    parts : sequence of nn.Module
        The stem, and every stage as a sequence of blocks.
    batch_norms : tuple of type
        What counts as batch norm.
    mode : callable
        From a batch norm to trained, fixed_statistics or frozen.
    where : str
        What the stages are read from.
    """
    stages, last = parts[1:], [stage[-1] for stage in parts[1:]]
    yield "backbone.blocks", [len(stage) for stage in stages], where
    channels = [getattr(block, "conv3", block.conv2).out_channels for block in last]
    yield "backbone.channels", channels, f"out_channels of the last convolution of each of {where}"
    inner = [block.conv2.out_channels for block in last]
    yield "backbone.inner_channels", inner, f"conv2.out_channels of the last block of each of {where}"
    groups = one_or_all(block.conv2.groups for stage in stages for block in stage)
    yield "backbone.groups", groups, f"conv2.groups of every block of {where}"
    yield "backbone.norm", norm_kinds([backbone], batch_norms), "type of every norm of backbone"
    first = [stage[0].conv1 for stage in stages[1:]]
    strides = one_or_all(one.kernel_size == (1, 1) and one.stride == (2, 2) for one in first)
    yield "backbone.stride_in_1x1", strides, f"first conv1 of each of {where} but the first"
    # What a full training would learn and this one leaves; a framework may make buffers of a frozen norm's parameters.
    frozen = [one for one in backbone.parameters() if not one.requires_grad]
    frozen += [buffer for name, buffer in backbone.named_buffers() if name.endswith((".weight", ".bias"))]
    where = "backbone.parameters() without requires_grad, scale and shift among backbone.buffers()"
    yield "backbone.frozen_parameters", sum(one.numel() for one in frozen), where
    learning = [part for part in parts if any(weight.requires_grad for weight in part.parameters())]
    norms = [one for part in learning or parts for one in part.modules() if isinstance(one, batch_norms)]
    modes = ", ".join(sorted({mode(norm) for norm in norms})) or "none"
    yield "backbone.batch_norm", modes, "norms of the stem and the stages that learn"
    weights = built.run.backbone.weights
    yield "backbone.weights_sha256", weights.sha256 if weights else None, "run.backbone.weights, checked when loading"


def weight_rows(built: Any, common_name: Callable[[str], str | None]) -> Iterator[Row]:
    """Yield ``weights.*``, by a framework's table of names."""
    for name, prefixes in WEIGHTS.items():
        digest = weights_digest(built.model, with_own_names(common_name, built.run), prefixes)
        yield f"weights.{name}_sha256", digest, f"model.state_dict(), common names {', '.join(prefixes)}"


def neck_rows(
    run: Callable[[], Sequence[Tensor]],
    laterals: Sequence[nn.Module],
    outputs: Sequence[nn.Module],
    batch_norms: tuple[type[nn.Module], ...],
) -> Iterator[Row]:
    """Yield ``neck.*`` but the channels, from one pass through a pyramid; its convolutions come finest level first."""
    yield (
        "neck.norm",
        norm_kinds([*laterals, *outputs], batch_norms),
        "norm of every convolution of the neck",
    )
    lateral: dict[int, Tensor] = {}
    merged: dict[int, Tensor] = {}
    with torch.no_grad(), ExitStack() as hooks:
        for level, (first, last) in enumerate(zip(laterals, outputs, strict=True)):
            given = partial(lambda level, _module, _inputs, output: lateral.update({level: output.clone()}), level)
            hooks.enter_context(first.register_forward_hook(given))
            entered = partial(lambda level, _module, inputs: merged.update({level: inputs[0].clone()}), level)
            hooks.enter_context(last.register_forward_pre_hook(entered))
        levels = run()
    yield "neck.levels", len(levels), "probe: maps that the neck gives"
    pooled = len(levels) > 1 and torch.equal(levels[-1], levels[-2][..., ::2, ::2])
    where = "probe: the coarsest map against every second number of the one before"
    yield "neck.last_level", "max_pool" if pooled else "other", where
    is_nearest = all(
        torch.allclose(merged[level], fine + functional.interpolate(merged[level + 1], size=fine.shape[-2:]), atol=1e-5)
        for level, fine in lateral.items()
        if level + 1 in merged
    )
    yield "neck.top_down", "nearest" if is_nearest else "other", "probe: what enters the output convolutions"
