"""Schedule, optimizer, and the order of the images."""

import copy
import warnings
from collections.abc import Iterator
from itertools import chain, islice

import torch
from detectron2.engine import AMPTrainer

from adapters.detectron2.training import SessionHook
from adapters.inspection import training_probes as probes
from adapters.inspection.control_rows import Row, joined_digest, one_or_all
from adapters.inspection.probe_inputs import PLANNED_IMAGES
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``schedule.*``, ``optimizer.*`` and ``training.*``."""
    where = "copies of schedulers and optimizer, stepped through every iteration"
    yield from probes.schedule_rows(learning_rates(built), where)
    yield from _optimizer(built)
    yield from _training(built)


def learning_rates(built: Built) -> list[float]:
    """Rate of every iteration, by stepping copies of the schedulers, which move a copy of the optimizer."""
    # The copies share the weights, which no scheduler touches.
    shared = {id(weight): weight for group in built.optimizer.param_groups for weight in group["params"]}
    schedulers, optimizer = copy.deepcopy((built.schedulers, built.optimizer), shared)
    rates = []
    with warnings.catch_warnings():
        # Torch expects a step of the optimizer before one of the scheduler.
        warnings.simplefilter("ignore")
        for _ in range(built.session.iterations):
            rates.append(optimizer.param_groups[0]["lr"])
            for scheduler in schedulers:
                scheduler.step()
    return rates


def _optimizer(built: Built) -> Iterator[Row]:
    optimizer = built.optimizer
    groups = optimizer.param_groups
    yield "optimizer.name", probes.optimizer_name(optimizer), "type(optimizer)"
    yield from probes.bias_rows(groups, built.model, "optimizer.param_groups[...]['lr'], ['weight_decay']")
    for key in ("momentum", "nesterov"):
        where = f"optimizer.param_groups[...]['{key}']"
        yield f"optimizer.{key}", one_or_all(group.get(key) for group in groups), where
    yield "optimizer.parameter_groups", probes.distinct_settings(groups), "distinct settings in optimizer.param_groups"
    covered = probes.parameters_covered(groups, built.model)
    yield "optimizer.parameters_covered", covered, "model.parameters() in optimizer.param_groups"
    clip = getattr(optimizer, "gradient_clip_norm", None)
    yield "optimizer.gradient_clip_norm", clip, "optimizer.gradient_clip_norm"


def _training(built: Built) -> Iterator[Row]:
    yield "training.precision", precision(built), "type(trainer), dtype of model.parameters()"
    others = [type(hook).__name__ for hook in built.hooks if not isinstance(hook, SessionHook)]
    yield "training.weight_averaging", ", ".join(others) or "none", "other hooks of the trainer than the session's"
    batches = built.loader.batch_sampler
    images = len(next(iter(batches))) * built.session.world_size
    yield "training.batch_size", images, "next(iter(loader.batch_sampler)), times processes"
    planned = [built.dataset.planned(position) for position in islice(chain.from_iterable(batches), PLANNED_IMAGES)]
    where = "loader.dataset.planned of positions from loader.batch_sampler"
    yield from probes.order_rows(planned, True, (where, where))
    where = "torch.randint after trainer hooks' before_step"
    yield "training.step_seeds_sha256", joined_digest(step_numbers(built)), where


def precision(built: Built) -> str:
    """Say whether a step computes in anything else than float32."""
    kinds = {str(weight.dtype).removeprefix("torch.") for weight in built.model.parameters()}
    return "mixed" if isinstance(built.engine, AMPTrainer) or len(kinds) > 1 else kinds.pop()


def step_numbers(built: Built) -> Iterator[int]:
    """Draw one number at the beginning of each of the first steps, as the trainer's hooks seed them."""
    trainer = built.engine
    before = trainer.iter
    for trainer.iter in range(probes.STEPS):
        for hook in trainer.hooks:
            hook.before_step()
        yield int(torch.randint(0, 2**31, (1,)))
    trainer.iter = before
