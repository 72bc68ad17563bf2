"""Controls of the schedule, the optimizer and the order of the images."""

import copy
import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.hooks import EMAHook

from adapters.inspection.learning_rates import milestones_and_warmup
from adapters.inspection.probe_inputs import PLANNED_IMAGES
from adapters.mmdet.controls.control_rows import Row, joined_digest, one_value
from adapters.mmdet.controls.images import mirrors
from adapters.training.assembly import Built

SEEDED_STEPS = 100


def schedule_rows(built: Built) -> Iterator[Row]:
    """Rates of the whole schedule."""
    rates, where = learning_rates(built), "[scheduler.step() for every iteration of train_loop.max_iters]"
    yield from milestones_and_warmup(rates, where)
    yield "schedule.learning_rates_sha256", joined_digest((f"{rate:.9g}" for rate in rates), "\n"), where


def learning_rates(built: Built) -> list[float]:
    """Step through the schedule with copies of the built schedulers on a copy of the built optimizer's settings."""
    groups = [{key: group[key] for key in group if key != "params"} for group in built.optimizer.param_groups]
    stand_in = SimpleNamespace(param_groups=groups, step=built.optimizer.step, _global_step=0)
    schedulers = [copy.copy(scheduler) for scheduler in built.schedulers]
    for scheduler in schedulers:
        scheduler.optimizer = stand_in
    rates = []
    for _ in range(built.engine.train_loop.max_iters):
        rates.append(groups[0]["lr"])
        for scheduler in schedulers:
            scheduler.step()
    return rates


def optimizer_rows(built: Built) -> Iterator[Row]:
    """Settings of the optimizer."""
    wrapper = built.optimizer
    groups = wrapper.param_groups
    yield "optimizer.name", type(wrapper.optimizer).__name__.lower(), "type(optim_wrapper.optimizer)"
    for key in ("momentum", "weight_decay", "nesterov"):
        where = f"optim_wrapper.param_groups[g]['{key}']"
        yield f"optimizer.{key}", one_value(group.get(key) for group in groups), where
    keys = ("lr", "momentum", "weight_decay", "nesterov", "dampening", "maximize")
    settings = {tuple(group.get(key) for key in keys) for group in groups}
    yield "optimizer.parameter_groups", len(settings), "distinct settings in optim_wrapper.param_groups"
    covered = parameters_covered(built)
    yield "optimizer.parameters_covered", covered, "optim_wrapper.param_groups[g]['params'], model.parameters()"
    clipping = wrapper.clip_grad_kwargs or {}
    norm = clipping.get("max_norm")
    if clipping and (norm is None or clipping.get("norm_type", 2) != 2):
        norm = str(clipping)  # clips something else than the L2 norm
    yield "optimizer.gradient_clip_norm", norm, "optim_wrapper.clip_grad_kwargs"


def parameters_covered(built: Built) -> bool:
    """Say whether the optimizer has every learning parameter once; frozen ones may be there, they get no gradient."""
    held = Counter(id(parameter) for group in built.optimizer.param_groups for parameter in group["params"])
    learning = all(held[id(one)] == 1 for one in built.model.parameters() if one.requires_grad)
    return learning and held.keys() <= {id(parameter) for parameter in built.model.parameters()}


def training_rows(built: Built) -> Iterator[Row]:
    """Precision, batches, order of the images and random state of the steps."""
    yield (
        "training.precision",
        precision(built),
        "probe: autocast in optim_wrapper.optim_context(); dtype of parameters",
    )
    averaging = [type(hook).__name__ for hook in built.hooks if isinstance(hook, EMAHook)]
    yield "training.weight_averaging", one_value(averaging or ["none"]), "hooks that are an EMAHook"
    passes = built.optimizer._accumulative_counts / built.session.execution.accumulation
    images = built.loader.batch_size * built.session.world_size * passes
    where = "loader.batch_size * session.world_size * batches that the optim_wrapper accumulates"
    yield "training.batch_size", int(images) if images.is_integer() else images, where
    planned = [built.dataset.planned(position) for position in islice(built.loader.sampler, PLANNED_IMAGES)]
    yield "training.order_sha256", joined_digest(image for image, _, _ in planned), "loader.sampler, dataset.planned()"
    done = mirrors(built)
    digest = joined_digest((int(flip and done) for _, flip, _ in planned), "")
    yield "training.flips_sha256", digest, "loader.sampler, dataset.planned(), probe: what the transforms mirror"
    where = "torch.randint after runner.call_hook('before_train_iter')"
    yield "training.step_seeds_sha256", joined_digest(step_numbers(built)), where


def precision(built: Built) -> str:
    """Probe whether a step computes in anything else than float32."""
    with built.optimizer.optim_context(built.model):
        autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    types = {parameter.dtype for parameter in built.model.parameters()}
    return "mixed" if autocast or types != {torch.float32} else "float32"


def step_numbers(built: Built) -> list[int]:
    """Draw one number in each of the first steps; the random states of Python and NumPy are put back."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the session seeds the legacy generator)
    numbers = []
    for iteration in range(SEEDED_STEPS):
        built.engine.call_hook("before_train_iter", batch_idx=iteration)
        numbers.append(int(torch.randint(0, 2**31, (1,))))
    random.setstate(python)
    np.random.set_state(legacy)  # noqa: NPY002
    return numbers
