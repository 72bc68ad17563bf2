"""Schedule, optimizer, and the order of the images."""

import copy
from collections.abc import Iterator
from types import SimpleNamespace

import torch
from mmengine.hooks import EMAHook

from adapters.inspection.control_rows import Row, one_or_all
from adapters.inspection.training_probes import optimizer_rows, order_rows, schedule_rows
from adapters.mmdet.controls.images import probed_images
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``schedule.*``, ``optimizer.*`` and ``training.*``."""
    yield from schedule_rows(learning_rates(built))
    wrapper = built.optimizer
    # The wrapper's own groups have one more, to log by, where there are several.
    yield from optimizer_rows(wrapper.optimizer, built.model, "optim_wrapper.optimizer")
    clipping = wrapper.clip_grad_kwargs or {}
    norm = clipping.get("max_norm")
    if clipping and (norm is None or clipping.get("norm_type", 2) != 2):
        norm = str(clipping)  # clips something else than the L2 norm
    yield "optimizer.gradient_clip_norm", norm, "optim_wrapper.clip_grad_kwargs"
    where = "probe: autocast in optim_wrapper.optim_context(); dtype of parameters"
    yield "training.precision", precision(built), where
    averaging = [type(hook).__name__ for hook in built.hooks if isinstance(hook, EMAHook)]
    yield "training.weight_averaging", one_or_all(averaging or ["none"]), "hooks that are an EMAHook"
    passes = wrapper._accumulative_counts / built.session.execution.accumulation
    images = built.loader.batch_size * built.session.world_size * passes
    where = "loader.batch_size * session.world_size * batches that the optim_wrapper accumulates"
    yield "training.batch_size", int(images) if images.is_integer() else images, where
    mirrors = probed_images(built).mirrors()

    def begin_step(iteration: int) -> None:
        built.engine.call_hook("before_train_iter", batch_idx=iteration)

    yield from order_rows(built, built.loader.sampler, mirrors, begin_step, "loader.sampler")


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


def precision(built: Built) -> str:
    """Probe whether a step computes in anything else than float32."""
    with built.optimizer.optim_context(built.model):
        autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    types = {parameter.dtype for parameter in built.model.parameters()}
    return "mixed" if autocast or types != {torch.float32} else "float32"
