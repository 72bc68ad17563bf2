"""How the parameters that learn are divided by the way they are trained, the same in every framework."""

from typing import Any

from torch import nn

from cascadebench.study.run import Run

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
"""Modules whose ``bias`` is the shift of a norm."""


def layer_biases(model: nn.Module) -> set[int]:
    """Identities of the biases of a model's convolutions and linear layers; the shift of a norm is none."""
    layers = (module for module in model.modules() if not isinstance(module, NORMS))
    biases = (dict(layer.named_parameters(recurse=False)).get("bias") for layer in layers)
    return {id(bias) for bias in biases if bias is not None}


def parameter_groups(model: nn.Module, run: Run) -> list[dict[str, Any]]:
    """Groups for an optimizer: one of all parameters that learn, or biases by themselves where they are set apart."""
    optimizer, base_lr = run.protocol.optimizer, run.protocol.schedule.base_lr
    biases = layer_biases(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in (one for one in model.parameters() if one.requires_grad):
        factors = (optimizer.bias_lr_factor, optimizer.bias_decay_factor) if id(parameter) in biases else (1.0, 1.0)
        groups.setdefault(factors, []).append(parameter)
    return [
        {"params": parameters, "lr": base_lr * rate, "weight_decay": optimizer.weight_decay * decay}
        for (rate, decay), parameters in groups.items()
    ]
