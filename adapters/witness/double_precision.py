"""Everything that torch computes, in double precision.

In float32 the frameworks' sums differ in the last bit, and that bit turns a ReLU over, or a pair at the NMS threshold;
then the difference is no longer small, and which one turns depends on the processor. In double precision the last bit
is 2e-16: a turn needs two numbers that are equal to fifteen digits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


class _DoubleForFloat(TorchFunctionMode):
    """Gives float64 wherever a framework asks for float32 by name, as Detectron2 does for its boxes."""

    def __torch_function__(self, function: Callable, types, arguments=(), keywords=None) -> Any:
        function = torch.Tensor.double if function is torch.Tensor.float else function
        keywords = {name: _wider(value) for name, value in (keywords or {}).items()}
        return function(*map(_wider, arguments), **keywords)


@contextmanager
def double_precision() -> Iterator[None]:
    """Compute in float64 what is built and run inside; parameters that come in float32 need ``model.double()``."""
    limits, before = torch.finfo, torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        # MMDetection divides losses by the number of samples plus the epsilon of float32.
        with patch.object(torch, "finfo", lambda *kind: limits(*map(_wider, kind))), _DoubleForFloat():
            yield
    finally:
        torch.set_default_dtype(before)
