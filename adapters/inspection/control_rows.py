"""What the readers of controls share: how a row looks, how values become comparable, how nothing is disturbed."""

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Row = tuple[str, Any, str]
"""Name, value and what the value was read from."""


@dataclass(frozen=True)
class Control:
    """One effective value, read back from a built object.

    Attributes
    ----------
    name : str
        Common name, e.g. ``rpn.nms_iou``; the same in every framework.
    value : bool, int, float, str, None or a list of them
        As the object holds it, in the common unit.
    read_from : str
        The attribute it was read from, as code.
    """

    name: str
    value: Any
    read_from: str


def read_rows(built: Any, readers: Iterable[Callable[[Any], Iterable[Row]]]) -> list[Control]:
    """Read the controls; the objects, and the random state, are left as they were."""
    with undisturbed(built.model):
        built.model.train()
        return [Control(*row) for reader in readers for row in reader(built)]


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


def joined_digest(values: Iterable[Any], separator: str = ",") -> str:
    """SHA-256 over the values as text."""
    return hashlib.sha256(separator.join(str(value) for value in values).encode()).hexdigest()


def divisor_name(divisors: Iterable[float], known: dict[str, float]) -> str:
    """Name what divides losses: the first of the known divisors that all are close to; other if there is none."""
    divisors = [float(divisor) for divisor in divisors]
    for name, value in known.items():
        if all(math.isclose(divisor, value, rel_tol=1e-4) for divisor in divisors):
            return name
    return "other"
