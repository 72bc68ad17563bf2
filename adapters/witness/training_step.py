"""One training step of the whole detector: every loss, and the gradient of every parameter."""

from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from adapters.training.assembly import Built
from adapters.training.seeding import seed_everything
from adapters.witness.fixtures import SHORT_SIDE
from adapters.witness.quantities import of_tensors, summary, unordered
from adapters.witness.subject import Subject
from cascadebench.controls.witness import Quantity
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import resized_shape


class EnteringRoIs:
    """Notes what enters each stage, in place of a training's recording."""

    def __init__(self) -> None:
        self.stages: dict[int, list[Tensor]] = {}

    def add(self, stage: int, rois: Tensor, ground_truth: Tensor) -> None:
        """Note the RoIs of an image, float [R, 4], and its ground truth, float [G, 4]."""
        self.stages.setdefault(stage, []).extend([rois.detach().clone(), ground_truth.detach().clone()])


def step_batch(built: Built, records: Sequence[ImageRecord]) -> Any:
    """Two small items as the loader joins them; the second is mirrored, and both are padded to one size."""
    reader = built.dataset.reader
    sizes = [resized_shape(record.width, record.height, SHORT_SIDE, reader.max_long_side) for record in records]
    shape = max(height for _, height in sizes), max(width for width, _ in sizes)
    flips = [bool(number) for number, _ in enumerate(records)]
    items = [
        reader.training_image(record, SHORT_SIDE, flip, shape) for record, flip in zip(records, flips, strict=True)
    ]
    return built.loader.collate_fn(items)


def step_quantities(subject: Subject, records: Sequence[ImageRecord]) -> Iterator[Quantity]:
    """Run forward once, and backward from the losses of the proposal network, of the first stage, and of all."""
    built, entering = subject.built, EnteringRoIs()
    model = built.model
    model.train()
    batch = step_batch(built, records)
    yield Quantity(step="network input", name="batch", value=summary(subject.framework.network_input(model, batch)))
    seed_everything(0)
    built.session.sampling.begin(0)
    with patch.object(built.session.sampling, "seed", 0), patch.object(subject.stages, "recording", entering):
        losses = subject.framework.training_losses(model, step_batch(built, records))
    groups = {"proposal network": "rpn_", "first stage": "stage1_"}
    own = {step: {name: loss for name, loss in losses.items() if name.startswith(prefix) and "mask" not in name}
           for step, prefix in groups.items()}  # fmt: skip
    rest = {name: loss for name, loss in losses.items() if not any(name in terms for terms in own.values())}
    for step, terms in (*own.items(), ("whole step", rest)):
        for name, loss in sorted(terms.items()):
            yield Quantity(step=step, name=f"loss {name}", value=float(loss.detach()))
    yield from _rois(entering)
    yield from _gradients(subject, [sum(terms.values()) for terms in (*own.values(), rest)])
    # What is frozen is a parameter in one framework and a buffer in another.
    buffers = ((name, tensor) for name, tensor in subject.tensors().items() if not tensor.requires_grad)
    yield from of_tensors("whole step", ((f"{name} afterwards", tensor) for name, tensor in sorted(buffers)))


def _rois(entering: EnteringRoIs) -> Iterator[Quantity]:
    """What entered each stage; frameworks list RoIs in orders of their own."""
    for stage, parts in sorted(entering.stages.items()):
        step = "whole step" if stage else "first stage"
        yield Quantity(step=step, name=f"RoIs of stage {stage + 1}", value=unordered(torch.cat(parts).T))


def _gradients(subject: Subject, losses: list[Tensor]) -> Iterator[Quantity]:
    """Gradients by common names: from the proposal network's losses, from the first stage's, and whole."""
    learning = {name: one for name, one in subject.tensors().items() if one.requires_grad}
    totals: dict[str, Tensor | None] = dict.fromkeys(learning)
    for step, loss in zip(("proposal network", "first stage", None), losses, strict=True):
        if not isinstance(loss, Tensor):
            continue  # no loss of this kind
        given = torch.autograd.grad(loss, list(learning.values()), retain_graph=True, allow_unused=True)
        reached = {name: gradient for name, gradient in zip(learning, given, strict=True) if gradient is not None}
        totals |= {name: one if totals[name] is None else totals[name] + one for name, one in reached.items()}
        if step == "first stage":  # how much of it reaches the trunk is a treatment
            reached = {name: gradient for name, gradient in reached.items() if name.startswith("heads.1.")}
        if step:
            yield from of_tensors(step, ((f"gradient of {name}", one) for name, one in sorted(reached.items())))
    yield from of_tensors("whole step", ((f"gradient of {name}", one) for name, one in sorted(totals.items())))
