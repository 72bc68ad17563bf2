"""Which parameters are biases, the same in every framework."""

from torch import nn

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
"""Modules whose ``bias`` is the shift of a norm."""


def layer_biases(model: nn.Module) -> set[int]:
    """Identities of the biases of a model's convolutions and linear layers; the shift of a norm is none."""
    layers = (module for module in model.modules() if not isinstance(module, NORMS))
    biases = (dict(layer.named_parameters(recurse=False)).get("bias") for layer in layers)
    return {id(bias) for bias in biases if bias is not None}
