"""Three steps of the run's own loop on given gradients, against plain SGD."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from adapters.training.assembly import Built
from adapters.witness.fixtures import SHORT_SIDE, named
from cascadebench.controls.witness import Quantity
from cascadebench.study.run import Run

FACTORS = (0.0, 1.0, -1e-6)
"""On the given gradient, step by step: nothing but decay; above any norm to which it is clipped; below it."""
CLOSE = 1e-8
"""Share of its movement by which a parameter may miss that of plain SGD."""


class _EnoughSteps(BaseException):
    """Leaves a framework's loop; no fault, which a framework would log."""


def update_quantities(built: Built, common_name: Callable[[str], str | None]) -> Iterator[Quantity]:
    """Let the engine train three steps with a loss whose gradient is given; the detector itself does not run."""
    learning = {name: one for name, one in named(built.model, common_name).items() if isinstance(one, nn.Parameter)}
    before = {name: parameter.detach().clone() for name, parameter in learning.items()}
    gradients = {name: given_gradient(name, one) for name, one in learning.items() if one.requires_grad}
    passes, steps = _train(built, [(learning[name], gradient) for name, gradient in gradients.items()])
    # Of several processes, or passes, each sees a part.
    planned = [built.dataset.planned(place)[:2] for place in range(len(FACTORS) * built.loader.batch_size)]
    yield Quantity(step="updates", name="learning rates", value=[rate for rate, _ in steps],
                   wanted=[built.run.protocol.schedule.learning_rate(step) for step in range(len(FACTORS))])  # fmt: skip
    consumed = [list(image) for _, images in steps for image in images]
    yield Quantity(step="updates", name="images and flips", value=consumed, wanted=[list(image) for image in planned])
    yield Quantity(step="updates", name="forward passes", value=passes, wanted=len(FACTORS))
    aligned = built.run.protocol.rules == "aligned"
    norm = float(torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt())
    others = [
        name
        for name, start in before.items()
        if not follows_sgd(built.run, start, learning[name].detach(), gradients.get(name), norm)
    ]
    yield Quantity(step="updates", name="parameters that plain SGD moves otherwise", value=others[:8],
                   wanted=[] if aligned else None)  # fmt: skip
    yield Quantity(step="hooks", name="hooks", value=[type(hook).__name__ for hook in built.hooks])
    yield Quantity(step="hooks", name="hooks of modules", value=_module_hooks(built.model))


def given_gradient(name: str, parameter: Tensor) -> Tensor:
    """A fixed gradient, by the common name of its parameter."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    drawn = random.standard_normal(tuple(parameter.shape), np.float32)
    return torch.from_numpy(drawn).to(parameter.dtype)


def _train(built: Built, pairs: list[tuple[Tensor, Tensor]]) -> tuple[int, list[tuple[float, list]]]:
    """Train as many steps as there are factors; return the forward passes, and every step's rate and images."""
    session, dataset, steps, passes = built.session, built.dataset, [], 0

    def linear_loss(*_inputs: Any, **_named: Any) -> dict[str, Tensor]:
        nonlocal passes
        passes += 1
        return {"loss_rpn_cls": FACTORS[len(steps)] * sum((one * given).sum() for one, given in pairs)}

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


def follows_sgd(run: Run, start: Tensor, end: Tensor, gradient: Tensor | None, norm: float) -> bool:
    """Whether a parameter has moved as SGD with momentum and decay moves it; one without a gradient stays.

    Parameters
    ----------
    norm : float
        L2 norm of the given gradient over all parameters, before the step's factor.
    """
    if gradient is None:
        return torch.equal(start, end)
    settings, velocity, here = run.protocol.optimizer, torch.zeros_like(start), start
    for step, factor in enumerate(FACTORS):
        clip = settings.gradient_clip_norm
        scale = factor * (min(1.0, clip / (abs(factor) * norm + 1e-6)) if clip else 1.0)
        velocity = settings.momentum * velocity + gradient * scale + settings.weight_decay * here
        here = here - run.protocol.schedule.learning_rate(step) * velocity
    missed, moved = float((end - here).abs().max()), float((here - start).abs().max())
    return missed <= CLOSE * moved + 1e-15 * float(start.abs().max())


def _module_hooks(model: nn.Module) -> list[str]:
    """Kinds of the modules that have a hook of their own."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sorted(type(module).__name__ for module in model.modules() for kind in kinds for _ in getattr(module, kind))
