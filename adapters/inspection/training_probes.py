"""Controls of the schedule, the optimizer and the order of the images, from what a framework's built objects give."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from adapters.inspection.control_rows import Row, joined_digest, one_or_all
from adapters.training.parameter_groups import layer_biases

STEPS = 100
"""In so many steps the random state is read."""


def schedule_rows(rates: Sequence[float], read_from: str) -> Iterator[Row]:
    """Yield ``schedule.*``.

    Parameters
    ----------
    rates : sequence of float
        Learning rate of every iteration of the schedule.
    """
    peak = max(rates)
    yield "schedule.iterations", len(rates), read_from
    yield "schedule.learning_rate_first", round(rates[0], 12), read_from
    yield "schedule.learning_rate_peak", round(peak, 12), read_from
    yield "schedule.learning_rate_last", round(rates[-1], 12), read_from
    # The frameworks' warm-ups sum in different orders; the last bits are no difference.
    full = next(iteration for iteration, rate in enumerate(rates) if rate >= peak * (1 - 1e-9))
    yield "schedule.warmup_iterations", full, read_from
    drops = [i for i in range(1, len(rates)) if rates[i] < rates[i - 1] * (1 - 1e-6)]
    yield "schedule.milestones", drops, read_from
    yield "schedule.learning_rates_sha256", joined_digest((f"{rate:.9g}" for rate in rates), "\n"), read_from


def optimizer_name(optimizer: torch.optim.Optimizer) -> str:
    """Name of an optimizer; a subclass of SGD is SGD."""
    return "sgd" if isinstance(optimizer, torch.optim.SGD) else type(optimizer).__name__


def distinct_settings(groups: Iterable[dict[str, Any]]) -> int:
    """Count the groups of parameters that are trained differently."""
    apart = ("params", "param_names")
    return len({tuple((key, repr(group[key])) for key in sorted(group.keys() - {*apart})) for group in groups})


def bias_rows(groups: Iterable[dict[str, Any]], model: nn.Module, read_from: str) -> Iterator[Row]:
    """Yield how biases and all other parameters that learn are trained."""
    biases = layer_biases(model)
    settings: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for group in groups:
        kinds = {id(one) in biases for one in group["params"] if one.requires_grad}
        for is_bias in kinds:
            settings[is_bias].append((group["lr"], group.get("weight_decay")))
    rates, others = ({rate for rate, _ in settings[is_bias]} for is_bias in (True, False))
    yield "optimizer.weight_decay", one_or_all(decay for _, decay in settings[False]), read_from
    factors = sorted(round(rate / other, 9) for rate in rates for other in others)
    yield "optimizer.bias_lr_factor", one_or_all(factors), read_from
    yield "optimizer.bias_weight_decay", one_or_all(decay for _, decay in settings[True]), read_from


def parameters_covered(groups: Iterable[dict[str, Any]], model: nn.Module) -> bool:
    """Say whether the optimizer has every learning parameter once; frozen ones may be there, they get no gradient."""
    held = Counter(id(parameter) for group in groups for parameter in group["params"])
    learning = all(held[id(one)] == 1 for one in model.parameters() if one.requires_grad)
    return learning and held.keys() <= {id(parameter) for parameter in model.parameters()}


def order_rows(planned: Iterable[tuple[int, bool, int]], mirrors: bool, read_from: tuple[str, str]) -> Iterator[Row]:
    """Yield hashes of the planned images and flips.

    Parameters
    ----------
    planned : iterable of (int, bool, int)
        Image id, flip and shorter side of every item.
    mirrors : bool
        Whether an item is mirrored where the plan says so.
    read_from : tuple of str
        Where images and where flips were read.
    """
    planned = list(planned)
    yield "training.order_sha256", joined_digest(image for image, _, _ in planned), read_from[0]
    flips = (int(flip and mirrors) for _, flip, _ in planned)
    yield "training.flips_sha256", joined_digest(flips, ""), read_from[1]
