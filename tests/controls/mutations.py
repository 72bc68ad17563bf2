"""Single changes behind the configuration's back: how they are made, and those that suit both frameworks.

Each is the name of the control that must see it, and a function that makes it in what an adapter built for a cascade of
the tiny protocol.
"""

from collections.abc import Callable
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from adapters.training.assembly import Built
from adapters.training.parameter_groups import layer_biases

Change = Callable[[Built], Any]
GROUP = "optimizer.param_groups.0"


def found(built: Built, path: str) -> Any:
    """Follow attributes, positions and keys from what was built."""
    target = built
    for part in path.split("."):
        target = _get(target, part)
    return target


def put(path: str, value: Any) -> Change:
    """Make a function that sets an attribute or item by its path: ``model.roi_heads.trunk_gradient.1``."""
    *parents, last = path.split(".")

    def mutate(built: Built) -> None:
        target = found(built, ".".join(parents)) if parents else built
        if isinstance(target, (list, dict)):
            target[_key(last)] = value
        else:
            setattr(target, last, value)

    return mutate


def _get(target: Any, name: str) -> Any:
    if isinstance(target, dict) or name.isdigit():
        return target[_key(name)]
    return getattr(target, name)


def _key(name: str) -> Any:
    return int(name) if name.isdigit() else {"True": True, "False": False}.get(name, name)


def frozen(name: str) -> Change:
    """Make a function that lets a parameter learn no longer."""
    return lambda built: built.model.get_parameter(name).requires_grad_(requires_grad=False)


def nudged(name: str) -> Change:
    """Make a function that moves one number of a parameter a little."""
    return lambda built: built.model.get_parameter(name).data.view(-1)[0].add_(1e-6)


def a_parameter_twice(built: Built) -> None:
    parameters = built.optimizer.param_groups[0]["params"]
    parameters.append(parameters[0])


def two_steps_swapped(built: Built) -> None:
    images = built.dataset.order.images
    images[[0, 1]] = images[[1, 0]]


def two_images_swapped(built: Built) -> None:
    images = built.dataset.order.images
    images[7, :2] = images[7, 1::-1].copy()


def reversed_records(built: Built) -> None:
    built.dataset.records = built.dataset.records[::-1]


def another_seed_of_the_steps(built: Built) -> None:
    built.session.run = built.run.model_copy(update={"seed": built.run.seed + 1})


def biases_without_decay(built: Built) -> None:
    _set_biases_apart(built, weight_decay=0.0)


def faster_biases(built: Built) -> None:
    _set_biases_apart(built, lr=2 * built.optimizer.param_groups[0]["lr"])


def _set_biases_apart(built: Built, **settings: float) -> None:
    optimizer, biases = getattr(built.optimizer, "optimizer", built.optimizer), layer_biases(built.model)
    group = optimizer.param_groups[0]
    apart = [one for one in group["params"] if id(one) in biases]
    group["params"] = [one for one in group["params"] if id(one) not in biases]
    optimizer.add_param_group(group | {"params": apart} | settings)
    faster = settings.get("lr", group["lr"]) / group["lr"]
    # Detectron2's scheduler keeps a rate per group from when it was made.
    for rates in (scheduler.base_lrs for scheduler in built.schedulers if isinstance(scheduler, LRScheduler)):
        rates.append(faster * rates[0])


IN_BOTH: list[tuple[str, Change]] = [
    ("optimizer.momentum", put(f"{GROUP}.momentum", 0.8)),
    ("optimizer.weight_decay", put(f"{GROUP}.weight_decay", 5e-4)),
    ("optimizer.bias_weight_decay", biases_without_decay),
    ("optimizer.bias_lr_factor", faster_biases),
    ("optimizer.nesterov", put(f"{GROUP}.nesterov", value=True)),
    ("optimizer.parameters_covered", lambda built: built.optimizer.param_groups[0]["params"].pop()),
    ("optimizer.parameters_covered", a_parameter_twice),
    ("training.order_sha256", two_steps_swapped),
    ("training.order_sha256", two_images_swapped),
    ("training.order_sha256", reversed_records),
    ("training.order_sha256", put("loader.sampler.session.start", 1)),
    ("training.flips_sha256", lambda built: built.dataset.order.flips[0, :1].__ixor__(True)),
    ("training.step_seeds_sha256", another_seed_of_the_steps),
    ("input.train_short_sides", lambda built: built.dataset.order.short_sides[0, :1].__isub__(32)),
]
