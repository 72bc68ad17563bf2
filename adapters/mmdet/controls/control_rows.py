"""What the readers of controls share."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

Row = tuple[str, Any, str]
"""Name, value and where it was read."""


def one_value(values: Iterable[Any]) -> Any:
    """Return the value that all have, or the list of them where they differ."""
    values = list(values)
    return values[0] if all(value == values[0] for value in values) else values


def rounded(values: Tensor, digits: int = 4) -> list[float]:
    """Values without the noise of float32."""
    return [round(float(value), digits) for value in values.flatten()]


def joined_digest(values: Iterable[Any], separator: str = ",") -> str:
    """SHA-256 over the values as text."""
    return hashlib.sha256(separator.join(str(value) for value in values).encode()).hexdigest()


def overlap_of_nms(config: dict[str, Any]) -> Any:
    """IoU of hard NMS; another kind of NMS is named before its IoU."""
    return config["iou_threshold"] if config["type"] == "nms" else f"{config['type']} {config['iou_threshold']}"


def regression_loss(module: nn.Module) -> str:
    """Name of a box regression loss."""
    kind = type(module).__name__
    if kind == "SmoothL1Loss":
        return f"smooth_l1 up to {module.beta:.4g}"
    return "l1" if kind == "L1Loss" else kind


def delta_clamp(coder: Any) -> list[float]:
    """Probe the least and the greatest factor on a side that a coder decodes."""
    boxes = torch.tensor([[-8.0, -8.0, 8.0, 8.0]]).expand(2, 4)
    deltas = torch.tensor([[0.0, 0.0, -100.0, -100.0], [0.0, 0.0, 100.0, 100.0]])
    decoded = coder.decode(boxes, deltas)
    sides = (decoded[:, 2:] - decoded[:, :2]) / 16
    return [round(float(sides.min()), 4), round(float(sides.max()), 4)]
