"""mmcv's operators, from torchvision where mmcv was installed without compiled ones.

mmcv's wheel-less installation is pure Python: ``mmcv._ext`` is missing and ``mmcv.ops`` cannot be imported. This module
puts a stand-in there that serves NMS and RoIAlign by torchvision's kernels. Compiled operators are used when present.
"""

import importlib.util
import sys
import types
from collections.abc import Callable

import torch
import torchvision

NAME = "mmcv._ext"


def _nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int = 0) -> torch.Tensor:
    """Return kept indices, score descending; `offset` 1 counts a box's last pixel into its size."""
    boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv orders tied scores as torch.sort does; torchvision gets ranks instead of scores, which have no ties.
    order = scores.sort(0, descending=True)[1]
    ranks = -torch.arange(len(order), device=boxes.device, dtype=boxes.dtype)
    return order[torchvision.ops.nms(boxes[order], ranks, iou_threshold)]


def _roi_align_forward(
    input, rois, output, argmax_y, argmax_x, aligned_height, aligned_width, spatial_scale, sampling_ratio, pool_mode,
    aligned,
) -> None:  # fmt: skip
    """Fill `output`; mmcv's pool mode 1 is the average."""
    if pool_mode != 1:
        raise NotImplementedError("RoIAlign with pool_mode='max' needs mmcv's compiled operators")
    output.copy_(
        torch.ops.torchvision.roi_align(
            input, rois, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
        )
    )


def _roi_align_backward(
    grad_output, rois, argmax_y, argmax_x, grad_input, aligned_height, aligned_width, spatial_scale, sampling_ratio,
    pool_mode, aligned,
) -> None:  # fmt: skip
    """Fill `grad_input`."""
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output, rois, spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio, aligned
        )
    )


def _not_served(name: str) -> Callable:
    """Stand in for an operator that torchvision does not have: it can be looked up, not called."""

    def operator(*arguments, **keywords):
        raise NotImplementedError(f"mmcv operator {name!r}: torchvision does not serve it; install mmcv with operators")

    return operator


class _TorchvisionOperators(types.ModuleType):
    """The module in place of ``mmcv._ext``; mmcv asserts that every operator's name exists."""

    nms = staticmethod(_nms)
    roi_align_forward = staticmethod(_roi_align_forward)
    roi_align_backward = staticmethod(_roi_align_backward)

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)
        return _not_served(name)


def provide_operators() -> None:
    """Put the stand-in into ``sys.modules`` unless mmcv has compiled operators."""
    if NAME not in sys.modules and importlib.util.find_spec("mmcv._ext") is None:
        sys.modules[NAME] = _TorchvisionOperators(NAME)


def operators_in_use() -> str:
    """Say what serves NMS and RoIAlign: ``mmcv compiled`` or ``torchvision``."""
    return "torchvision" if isinstance(sys.modules.get(NAME), _TorchvisionOperators) else "mmcv compiled"
