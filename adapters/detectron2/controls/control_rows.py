"""What the modules that read controls have in common."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Row = tuple[str, Any, str]
"""Name, value and what the value was read from."""


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Restore the random state of Python, NumPy and torch, every module's mode and every buffer at the end."""
    modes = {module: module.training for module in model.modules()}
    # Batch norm counts and averages what it sees in training.
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (what the frameworks draw from)
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            for module, training in modes.items():
                module.training = training
            for buffer, before in buffers:
                buffer.copy_(before)


def one_or_all(values: Iterable[Any]) -> Any:
    """Return the value if all are equal, else the list of them: a difference inside a control must be seen."""
    values = list(values)
    return values[0] if all(value == values[0] for value in values) else values


def rounded(values: Tensor, digits: int = 4) -> list[float]:
    """Numbers of a tensor without the noise of float32, and without negative zeros."""
    return [round(value, digits) + 0.0 for value in values.detach().double().flatten().tolist()]
