"""The numbers that every part of a detector starts from, against those that the run's seed gives."""

from collections.abc import Iterator

import torch
from torch import Tensor

from adapters.contract import Adapter
from adapters.training.assembly import Built
from adapters.weights.initial_weights import fill_with_common_weights
from adapters.witness.fixtures import named
from adapters.witness.quantities import summary
from cascadebench.controls.witness import Quantity


@torch.no_grad()
def initial_quantities(adapter: Adapter, built: Built) -> Iterator[Quantity]:
    """Note every part's numbers; the model is filled anew, which must change nothing."""
    common_name = adapter.common_names(built.run)
    tensors = named(built.model, common_name)
    for part in sorted({_part(name) for name in tensors}):
        values = [summary(tensor) for name, tensor in sorted(tensors.items()) if _part(name) == part]
        yield Quantity(step="initial numbers", name=part, value=summary(torch.tensor(values)))
    if built.run.protocol.rules == "aligned":
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        fill_with_common_weights(built.model, common_name, built.run)
        others = [name for name, tensor in tensors.items() if not _equal(before[name], tensor)]
        name = "tensors that do not start from the seed"
        yield Quantity(step="initial numbers", name=name, value=sorted(others)[:8], wanted=[])


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other)


def _part(name: str) -> str:
    """The part that a tensor belongs to: backbone, neck, rpn, a head, what a variant adds."""
    return ".".join(name.split(".")[: 2 if name.startswith(("heads.", "variant.")) else 1])
