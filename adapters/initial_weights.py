"""Fills a model with the library's initial weights, through a framework's table of names."""

import hashlib
from collections.abc import Callable

import torch
from torch import nn

from cascadebench.initial_weights import initial_tensor


@torch.no_grad()
def fill_with_common_weights(model: nn.Module, common_name: Callable[[str], str | None], seed: int) -> None:
    """Replace every parameter and buffer of a model by the common initial numbers.

    Parameters
    ----------
    common_name : callable
        From a name of the model's state dict to the common one; None for buffers that hold no weights (counters, pixel
        statistics, anchors).
    """
    for name, tensor in model.state_dict().items():
        common = common_name(name)
        if common is not None:
            tensor.copy_(torch.from_numpy(initial_tensor(common, tuple(tensor.shape), seed)))


def weights_digest(model: nn.Module, common_name: Callable[[str], str | None], prefixes: tuple[str, ...]) -> str:
    """SHA-256 over the tensors whose common names start with one of `prefixes`, in the order of those names."""
    digest = hashlib.sha256()
    named = [(common_name(name), tensor) for name, tensor in model.state_dict().items()]
    for common, tensor in sorted(((c, t) for c, t in named if c and c.startswith(prefixes)), key=lambda pair: pair[0]):
        digest.update(common.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
