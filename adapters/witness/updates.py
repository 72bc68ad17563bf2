"""Three steps of the run's own loop on given gradients, against plain SGD."""

import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from adapters.training.assembly import Built
from adapters.witness.fixtures import SHORT_SIDE
from adapters.witness.quantities import plain
from adapters.witness.subject import Subject
from cascadebench.controls.witness import Quantity
from cascadebench.study.run import Run

FACTORS = (0.0, 1.0, -1e-6)
"""On the given gradient, step by step: nothing but decay; above any norm to which it is clipped; below it."""
WATCHED = 4096
"""Elements of a parameter that are followed one by one; the others in their sum."""
CLOSE = 1e-8
"""Share of its movement by which a parameter may miss that of plain SGD."""


class _EnoughSteps(BaseException):
    """Leaves a framework's loop; no fault, which a framework would log."""


@dataclass(frozen=True)
class Watched:
    """A parameter before the steps: a few of its elements, and the sum of them all.

    It is a bias where its common name says so, other than a norm's.

    Attributes
    ----------
    gradient : float or None
        The given gradient of every element; None: it does not learn.
    """

    is_bias: bool
    parameter: Tensor
    elements: Tensor
    total: float
    gradient: float | None

    @classmethod
    def of(cls, name: str, parameter: Tensor) -> "Watched":
        """Begin to watch; the gradient comes from the common name."""
        gradient = (zlib.crc32(name.encode()) % 1999 - 999.5) / 1000 if parameter.requires_grad else None
        is_bias = name.endswith(".bias") and not re.search(r"norm\d?\.bias", name)
        return cls(is_bias, parameter, some_elements(parameter).clone(), float(parameter.detach().sum()), gradient)


def some_elements(parameter: Tensor) -> Tensor:
    """At most :data:`WATCHED` elements, evenly spread."""
    flat = parameter.detach().flatten()
    return flat[:: max(len(flat) // WATCHED, 1)]


def update_quantities(subject: Subject) -> Iterator[Quantity]:
    """Let the engine train three steps with a loss whose gradient is given; the detector itself does not run."""
    built, run = subject.built, subject.built.run
    parameters = {name: one for name, one in subject.tensors().items() if isinstance(one, nn.Parameter)}
    watched = {name: Watched.of(name, parameter) for name, parameter in parameters.items()}
    passes, steps = _train(built, [one for one in watched.values() if one.gradient is not None])
    rates = [run.protocol.schedule.learning_rate(step) for step in range(len(FACTORS))]
    yield Quantity(step="updates", name="learning rates", value=[rate for rate, _ in steps], wanted=rates)
    places = range(len(FACTORS) * built.loader.batch_size)
    planned = [[*built.dataset.planned(place)[:2], SHORT_SIDE] for place in places]
    consumed = plain([image for _, images in steps for image in images])
    yield Quantity(step="order", name="images, flips and sizes of three steps", value=consumed, wanted=planned)
    yield Quantity(step="updates", name="forward passes", value=passes, wanted=len(FACTORS))
    norm = math.sqrt(sum(one.parameter.numel() * one.gradient**2 for one in watched.values() if one.gradient))
    others = [name for name, one in watched.items() if not follows_sgd(run, one, norm)]
    wanted = [] if subject.aligned else None
    yield Quantity(step="updates", name="parameters that plain SGD moves otherwise", value=others[:8], wanted=wanted)
    yield Quantity(step="hooks", name="hooks of the loop", value=[type(hook).__name__ for hook in built.hooks])
    yield Quantity(step="hooks", name="modules with hooks", value=_hooked_modules(built.model))


def _train(built: Built, learning: list[Watched]) -> tuple[int, list[tuple[float, list]]]:
    """Train as many steps as there are factors; return the forward passes, and every step's rate and images."""
    session, dataset, steps, passes = built.session, built.dataset, [], 0

    def linear_loss(*_inputs: Any, **_named: Any) -> dict[str, Tensor]:
        nonlocal passes
        passes += 1
        return {"loss_rpn_cls": FACTORS[len(steps)] * sum(one.gradient * one.parameter.sum() for one in learning)}

    def after_iteration(_iteration: int, _losses: Any, learning_rate: float, consumed: list) -> None:
        steps.append((learning_rate, list(consumed)))
        if len(steps) == len(FACTORS):
            raise _EnoughSteps

    small = replace(dataset.order, short_sides=np.full_like(dataset.order.short_sides, SHORT_SIDE))
    with (
        patch.object(dataset, "order", small),
        patch.object(session, "restore", lambda *_: None),
        patch.object(session, "after_iteration", after_iteration),
        patch.object(built.model, "forward", linear_loss),
    ):
        try:
            built.engine.train()
        except _EnoughSteps:
            pass
        finally:
            built.loader.close()
    return passes, steps


def follows_sgd(run: Run, watched: Watched, norm: float) -> bool:
    """Whether a parameter has moved as SGD with momentum and decay moves it; one that does not learn stays.

    SGD is linear, so that the sum of all elements follows the same rule as each of them.

    Parameters
    ----------
    norm : float
        L2 norm of the given gradient over all parameters, before the step's factor.
    """
    number = watched.parameter.numel()
    ends = some_elements(watched.parameter), watched.parameter.detach().sum()
    starts = watched.elements, torch.as_tensor(watched.total, dtype=torch.float64)
    if watched.gradient is None:
        return all(torch.equal(start, end) for start, end in zip(starts, ends, strict=True))
    for start, end, gradient in zip(starts, ends, (watched.gradient, number * watched.gradient), strict=True):
        moved = plain_sgd(run, start, gradient, norm, watched.is_bias) - start
        missed = (end - start - moved).abs().max()
        if not missed <= CLOSE * moved.abs().max() + 1e-14 * start.abs().max():
            return False
    return True


def plain_sgd(run: Run, start: Tensor, gradient: float, norm: float, is_bias: bool) -> Tensor:
    """Where values end after the steps."""
    settings, velocity, here = run.protocol.optimizer, torch.zeros_like(start), start
    rate, decay = (settings.bias_lr_factor, settings.bias_decay_factor) if is_bias else (1.0, 1.0)
    for step, factor in enumerate(FACTORS):
        clip = settings.gradient_clip_norm
        scale = factor * (min(1.0, clip / (abs(factor) * norm + 1e-6)) if clip else 1.0)
        velocity = settings.momentum * velocity + gradient * scale + decay * settings.weight_decay * here
        here = here - rate * run.protocol.schedule.learning_rate(step) * velocity
    return here


def _hooked_modules(model: nn.Module) -> list[str]:
    """Kinds of the modules that have a hook of their own."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sorted(type(module).__name__ for module in model.modules() for kind in kinds for _ in getattr(module, kind))
