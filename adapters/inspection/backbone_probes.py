"""Kinds of norms, and what a feature pyramid does with its maps."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cascadebench.detectors.backbone import NORM_GROUPS

WEIGHTS = {"trunk": ("backbone.", "neck.", "rpn."), "first_head": ("heads.1.",)}
"""Parts of a detector whose initial weights are hashed, by beginnings of their common names."""


def norm_kinds(modules: Iterable[nn.Module], batch_norms: tuple[type[nn.Module], ...] = (nn.BatchNorm2d,)) -> str:
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


@dataclass
class Pyramid:
    """What one pass through a pyramid gave, finest level first.

    Attributes
    ----------
    levels : sequence of Tensor
        Its maps.
    lateral, merged : list of Tensor
        What its lateral convolutions gave, and what entered its output convolutions.
    """

    levels: Sequence[Tensor]
    lateral: list[Tensor]
    merged: list[Tensor]

    @property
    def last_level(self) -> str:
        """How the coarsest level follows from the one before."""
        pooled = len(self.levels) > 1 and torch.equal(self.levels[-1], self.levels[-2][..., ::2, ::2])
        return "max_pool" if pooled else "other"

    @property
    def top_down(self) -> str:
        """How a coarser level is enlarged before it is added to the lateral map of the next finer one."""
        is_nearest = all(
            torch.allclose(fine, lateral + functional.interpolate(coarse, size=lateral.shape[-2:]), atol=1e-5)
            for fine, lateral, coarse in zip(self.merged, self.lateral, self.merged[1:], strict=False)
        )
        return "nearest" if is_nearest else "other"


@torch.no_grad()
def probe_pyramid(
    run: Callable[[], Sequence[Tensor]], laterals: Iterable[nn.Module], outputs: Iterable[nn.Module]
) -> Pyramid:
    """Run a pyramid once and note what goes in and out of its convolutions, which come finest level first."""
    lateral: dict[int, Tensor] = {}
    merged: dict[int, Tensor] = {}
    with ExitStack() as hooks:
        for level, (first, last) in enumerate(zip(laterals, outputs, strict=True)):
            hook = first.register_forward_hook(lambda *given, level=level: lateral.update({level: given[2].clone()}))
            hooks.callback(hook.remove)
            hook = last.register_forward_pre_hook(
                lambda *given, level=level: merged.update({level: given[1][0].clone()})
            )
            hooks.callback(hook.remove)
        levels = run()
    return Pyramid(levels, [lateral[level] for level in sorted(lateral)], [merged[level] for level in sorted(merged)])
