"""Controls of the schedule, the optimizer and the order of the images, from what a framework's built objects give."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn

from adapters.inspection.control_rows import Row, joined_digest, one_or_all
from adapters.inspection.probe_inputs import PLANNED_IMAGES
from adapters.training.arithmetic import cpu_arithmetic
from adapters.training.parameter_groups import layer_biases

STEPS = 100
"""In so many steps the random state is read."""


def schedule_rows(rates: Sequence[float]) -> Iterator[Row]:
    """Yield ``schedule.*`` from the learning rate of every iteration."""
    where, peak = "copies of schedulers and optimizer, stepped through every iteration", max(rates)
    yield "schedule.iterations", len(rates), where
    yield "schedule.learning_rate_first", round(rates[0], 12), where
    yield "schedule.learning_rate_peak", round(peak, 12), where
    yield "schedule.learning_rate_last", round(rates[-1], 12), where
    # The frameworks' warm-ups sum in different orders; the last bits are no difference.
    full = next(iteration for iteration, rate in enumerate(rates) if rate >= peak * (1 - 1e-9))
    yield "schedule.warmup_iterations", full, where
    drops = [i for i in range(1, len(rates)) if rates[i] < rates[i - 1] * (1 - 1e-6)]
    yield "schedule.milestones", drops, where
    yield "schedule.learning_rates_sha256", joined_digest((f"{rate:.9g}" for rate in rates), "\n"), where


def optimizer_rows(optimizer: torch.optim.Optimizer, model: nn.Module, name_in_code: str) -> Iterator[Row]:
    """Yield ``optimizer.*`` but the clipping."""
    groups, where = optimizer.param_groups, f"{name_in_code}.param_groups"
    # A subclass of SGD is SGD.
    name = "sgd" if isinstance(optimizer, torch.optim.SGD) else type(optimizer).__name__
    yield "optimizer.name", name, "type(optimizer)"
    for key in ("momentum", "nesterov"):
        yield f"optimizer.{key}", one_or_all(group.get(key) for group in groups), f"{where}[g]['{key}']"
    biases = layer_biases(model)
    trained: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for group in groups:
        for is_bias in {id(one) in biases for one in group["params"] if one.requires_grad}:
            trained[is_bias].append((group["lr"], group.get("weight_decay")))
    rates, others = ({rate for rate, _ in trained[is_bias]} for is_bias in (True, False))
    factors = sorted(round(rate / other, 9) for rate in rates for other in others)
    yield "optimizer.weight_decay", one_or_all(decay for _, decay in trained[False]), f"{where}[g]['weight_decay']"
    yield "optimizer.bias_lr_factor", one_or_all(factors), f"{where}[g]['lr']"
    yield "optimizer.bias_weight_decay", one_or_all(decay for _, decay in trained[True]), f"{where}[g]['weight_decay']"
    settings = {
        tuple((key, repr(group[key])) for key in sorted(group.keys() - {"params", "param_names"})) for group in groups
    }
    yield "optimizer.parameter_groups", len(settings), f"distinct settings in {where}"
    # Every learning parameter once; frozen ones may be there, they get no gradient.
    held = Counter(id(parameter) for group in groups for parameter in group["params"])
    covered = all(held[id(one)] == 1 for one in model.parameters() if one.requires_grad)
    covered = covered and held.keys() <= {id(parameter) for parameter in model.parameters()}
    yield "optimizer.parameters_covered", covered, f"{where}[g]['params'], model.parameters()"


def order_rows(
    built: Any, positions: Iterable[int], mirrors: bool, begin_step: Callable[[int], None], where: str
) -> Iterator[Row]:
    """Yield the arithmetic, hashes of the planned images and flips, and of a number drawn in each of the first steps.

    Parameters
    ----------
    positions : iterable of int
        Items of the training in the order in which the loader reads them.
    mirrors : bool
        Whether an item is mirrored where the plan says so.
    begin_step : callable
        Does what the loop does before a step.
    where : str
        What the positions are read from.
    """
    # A run that asks for native arithmetic may have any.
    portable = built.run.protocol.arithmetic == "portable" and cpu_arithmetic()["portable"]
    read_from = "torch.backends.cpu.get_cpu_capability(), os.environ; native where the protocol asks for it"
    yield "training.arithmetic", "portable" if portable else "native", read_from
    planned = [built.dataset.planned(position) for position in islice(positions, PLANNED_IMAGES)]
    where = f"dataset.planned() of positions from {where}"
    yield "training.order_sha256", joined_digest(image for image, _, _ in planned), where
    flips = (int(flip and mirrors) for _, flip, _ in planned)
    yield "training.flips_sha256", joined_digest(flips, ""), f"{where}, probe: what the reader mirrors"
    numbers = []
    for iteration in range(STEPS):
        begin_step(iteration)
        numbers.append(int(torch.randint(0, 2**31, (1,))))
    yield "training.step_seeds_sha256", joined_digest(numbers), "torch.randint after what the loop does before a step"
