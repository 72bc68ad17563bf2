"""How what came out is noted: few numbers in which every element has a part."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from cascadebench.controls.witness import Quantity

FOLD = 1021
"""A prime: elements that a layout puts at equal distances meet different weights."""


def summary(values: Tensor) -> list[float]:
    """Number of elements, L2 norm, and a projection that changes when any elements change places.

    Parameters
    ----------
    values : Tensor, any shape
        Read as float64.
    """
    flat = values.detach().cpu().double().flatten()
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % FOLD)).reshape(-1, FOLD)
    columns = torch.arange(FOLD, dtype=torch.float64, device="cpu").add(1).sqrt().cos()
    rows = torch.arange(len(padded), dtype=torch.float64, device="cpu").add(2).sqrt().sin()
    return [len(flat), float(flat.norm()), float(rows @ padded @ columns)]


def unordered(rows: Iterable[Tensor]) -> list[float]:
    """Number of rows, and for each of some columns, float [N], its sum and the sum of its squares.

    Two frameworks list equal scores in either order.
    """
    columns = [column.detach().cpu().double() for column in rows]
    # Every column times a function of the others' sum: rows whose entries were exchanged are other rows.
    together = torch.stack(columns, 1).sum(1).div(97).cos() if columns else torch.zeros(0)
    sums = [float(value) for column in columns for value in (column.sum(), (column * together).sum())]
    return [len(together), *sums]


def bytes_digest(values: Tensor) -> str:
    """SHA-256 over the shape and the bytes of a tensor, its first 16 hex digits."""
    values = values.detach().cpu().contiguous()
    return hashlib.sha256(str(tuple(values.shape)).encode() + values.numpy().tobytes()).hexdigest()[:16]


def of_tensors(step: str, named: Iterable[tuple[str, Tensor | None]]) -> list[Quantity]:
    """Note tensors by name; None: nothing came out, as no gradient where a loss does not reach."""
    return [Quantity(step=step, name=name, value=None if one is None else summary(one)) for name, one in named]


def plain(value: Any) -> Any:
    """Tuples as lists: as JSON reads them back."""
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value
