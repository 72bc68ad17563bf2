"""Schedule, optimizer, and the order of the images."""

import copy
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace

import torch
from mmengine.hooks import EMAHook

from adapters.inspection import training_probes as probes
from adapters.inspection.control_rows import Row, joined_digest, one_or_all
from adapters.inspection.probe_inputs import PLANNED_IMAGES
from adapters.mmdet.controls.images import mirrors
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``schedule.*``, ``optimizer.*`` and ``training.*``."""
    where = "[scheduler.step() for every iteration of train_loop.max_iters]"
    yield from probes.schedule_rows(learning_rates(built), where)
    yield from _optimizer(built)
    yield from _training(built)


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


def _optimizer(built: Built) -> Iterator[Row]:
    wrapper = built.optimizer
    groups = wrapper.optimizer.param_groups  # the wrapper adds one to log by, where there are several
    yield "optimizer.name", probes.optimizer_name(wrapper.optimizer), "type(optim_wrapper.optimizer)"
    yield from probes.bias_rows(groups, built.model, "optim_wrapper.optimizer.param_groups[g]['lr'], ['weight_decay']")
    for key in ("momentum", "nesterov"):
        where = f"optim_wrapper.optimizer.param_groups[g]['{key}']"
        yield f"optimizer.{key}", one_or_all(group.get(key) for group in groups), where
    settings = probes.distinct_settings(groups)
    yield "optimizer.parameter_groups", settings, "distinct settings in optim_wrapper.optimizer.param_groups"
    covered = probes.parameters_covered(groups, built.model)
    yield (
        "optimizer.parameters_covered",
        covered,
        "optim_wrapper.optimizer.param_groups[g]['params'], model.parameters()",
    )
    clipping = wrapper.clip_grad_kwargs or {}
    norm = clipping.get("max_norm")
    if clipping and (norm is None or clipping.get("norm_type", 2) != 2):
        norm = str(clipping)  # clips something else than the L2 norm
    yield "optimizer.gradient_clip_norm", norm, "optim_wrapper.clip_grad_kwargs"


def _training(built: Built) -> Iterator[Row]:
    where = "probe: autocast in optim_wrapper.optim_context(); dtype of parameters"
    yield "training.precision", precision(built), where
    averaging = [type(hook).__name__ for hook in built.hooks if isinstance(hook, EMAHook)]
    yield "training.weight_averaging", one_or_all(averaging or ["none"]), "hooks that are an EMAHook"
    passes = built.optimizer._accumulative_counts / built.session.execution.accumulation
    images = built.loader.batch_size * built.session.world_size * passes
    where = "loader.batch_size * session.world_size * batches that the optim_wrapper accumulates"
    yield "training.batch_size", int(images) if images.is_integer() else images, where
    planned = [built.dataset.planned(position) for position in islice(built.loader.sampler, PLANNED_IMAGES)]
    where = "loader.sampler, dataset.planned()"
    yield from probes.order_rows(planned, mirrors(built), (where, f"{where}, probe: what the transforms mirror"))
    where = "torch.randint after runner.call_hook('before_train_iter')"
    yield "training.step_seeds_sha256", joined_digest(step_numbers(built)), where


def precision(built: Built) -> str:
    """Probe whether a step computes in anything else than float32."""
    with built.optimizer.optim_context(built.model):
        autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    types = {parameter.dtype for parameter in built.model.parameters()}
    return "mixed" if autocast or types != {torch.float32} else "float32"


def step_numbers(built: Built) -> Iterator[int]:
    """Draw one number in each of the first steps."""
    for iteration in range(probes.STEPS):
        built.engine.call_hook("before_train_iter", batch_idx=iteration)
        yield int(torch.randint(0, 2**31, (1,)))
