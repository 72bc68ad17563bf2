"""The numbers that every part of a detector starts from, against those that the run's seed gives."""

from collections.abc import Iterator

import torch

from adapters.weights.initial_weights import fill_with_common_weights
from adapters.witness.quantities import summary
from adapters.witness.subject import Subject
from cascadebench.controls.witness import Quantity


@torch.no_grad()
def initial_quantities(subject: Subject) -> Iterator[Quantity]:
    """Note every part's numbers; the model is filled anew, which must change nothing."""
    tensors = subject.tensors()
    for part in sorted({_part(name) for name in tensors}):
        values = [summary(tensor) for name, tensor in sorted(tensors.items()) if _part(name) == part]
        yield Quantity(step="initial numbers", name=part, value=summary(torch.tensor(values)))
    if subject.aligned:
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        fill_with_common_weights(subject.built.model, subject.names.get, subject.built.run)
        others = [name for name, tensor in tensors.items() if not torch.equal(before[name], tensor)]
        name = "tensors that do not start from the seed"
        yield Quantity(step="initial numbers", name=name, value=sorted(others)[:8], wanted=[])


def _part(name: str) -> str:
    """The part that a tensor belongs to: backbone, neck, rpn, a head, what a variant adds."""
    return ".".join(name.split(".")[: 2 if name.startswith(("heads.", "variant.")) else 1])
