"""Fills a model with the library's initial weights, through a framework's table of names."""

import hashlib
from collections.abc import Callable

import torch
from torch import nn

from cascadebench.determinism.initial_weights import drawn_as_pytorch, initial_tensor, pytorch_tensor
from cascadebench.study.run import Run


@torch.no_grad()
def fill_with_common_weights(model: nn.Module, common_name: Callable[[str], str | None], run: Run) -> None:
    """Replace every parameter and buffer of a model by the common initial numbers of a run.

    Parameters
    ----------
    common_name : callable
        From a name of the model's state dict to the common one; None for buffers that hold no weights (counters, pixel
        statistics, anchors).
    """
    state = model.state_dict()
    for name, tensor in state.items():
        common = common_name(name)
        if common is None:
            continue
        shape = tuple(tensor.shape)
        if drawn_as_pytorch(run, common):
            fan_in = state[f"{name.rpartition('.')[0]}.weight"].shape[1]
            drawn = pytorch_tensor(common, shape, fan_in, run.seed)
        else:
            drawn = initial_tensor(common, shape, run.seed)
        tensor.copy_(torch.from_numpy(drawn))


def weights_digest(model: nn.Module, common_name: Callable[[str], str | None], prefixes: tuple[str, ...]) -> str:
    """SHA-256 over the tensors whose common names start with one of `prefixes`, in the order of those names.

    Mask branches are left out: a first head is the baseline's whether it has one or not.
    """
    digest = hashlib.sha256()
    named = [(common_name(name), tensor) for name, tensor in model.state_dict().items()]
    named = [(common, tensor) for common, tensor in named if common and ".mask." not in common]
    for common, tensor in sorted(((c, t) for c, t in named if c.startswith(prefixes)), key=lambda pair: pair[0]):
        digest.update(common.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
