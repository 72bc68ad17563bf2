"""A factor on a gradient, in plain torch."""

from typing import Any

import torch
from torch import Tensor


class ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a weight."""

    @staticmethod
    def forward(context: Any, features: Tensor, weight: float) -> Tensor:
        """Pass the features on."""
        context.weight = weight
        return features.view_as(features)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Scale the gradient."""
        return gradient * context.weight, None
