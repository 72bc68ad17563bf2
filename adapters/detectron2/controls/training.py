"""Schedule, optimizer, and the order of the images."""

import copy
import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice

import torch
from detectron2.engine import AMPTrainer

from adapters.detectron2.controls.control_rows import Row, one_or_all
from adapters.detectron2.training import SessionHook
from adapters.inspection.learning_rates import milestones_and_warmup
from adapters.inspection.probe_inputs import PLANNED_IMAGES
from adapters.training.assembly import Built

STEPS = 100


def rows(built: Built) -> Iterator[Row]:
    """Yield ``schedule.*``, ``optimizer.*`` and ``training.*``."""
    rates = learning_rates(built)
    stepped = "copies of schedulers and optimizer, stepped through every iteration"
    yield from milestones_and_warmup(rates, stepped)
    yield "schedule.learning_rates_sha256", digest("\n".join(f"{rate:.9g}" for rate in rates)), stepped
    yield from _optimizer(built)
    yield from _training(built)


def digest(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


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
    name = "sgd" if isinstance(optimizer, torch.optim.SGD) else type(optimizer).__name__
    yield "optimizer.name", name, "type(optimizer)"
    for key in ("momentum", "weight_decay", "nesterov"):
        yield (
            f"optimizer.{key}",
            one_or_all(group.get(key) for group in groups),
            f"optimizer.param_groups[...]['{key}']",
        )
    settings = {
        tuple((key, repr(value)) for key, value in sorted(group.items()) if key not in ("params", "param_names"))
        for group in groups
    }
    yield "optimizer.parameter_groups", len(settings), "distinct settings in optimizer.param_groups"
    held = Counter(id(weight) for group in groups for weight in group["params"])
    learn = {id(weight) for weight in built.model.parameters() if weight.requires_grad}
    covered = all(held[weight] == 1 for weight in learn)
    yield "optimizer.parameters_covered", covered, "model.parameters() in optimizer.param_groups"
    clip = getattr(optimizer, "gradient_clip_norm", None)
    yield "optimizer.gradient_clip_norm", clip, "optimizer.gradient_clip_norm"


def _training(built: Built) -> Iterator[Row]:
    kinds = {str(weight.dtype).removeprefix("torch.") for weight in built.model.parameters()}
    precision = "mixed" if isinstance(built.engine, AMPTrainer) or len(kinds) > 1 else kinds.pop()
    yield "training.precision", precision, "type(trainer), dtype of model.parameters()"
    others = [type(hook).__name__ for hook in built.hooks if not isinstance(hook, SessionHook)]
    yield "training.weight_averaging", ", ".join(others) or "none", "other hooks of the trainer than the session's"
    batches = built.loader.batch_sampler
    batch_size = len(next(iter(batches))) * built.session.world_size
    yield "training.batch_size", batch_size, "next(iter(loader.batch_sampler)), times processes"
    positions = islice(chain.from_iterable(batches), PLANNED_IMAGES)
    planned = [built.dataset.planned(position) for position in positions]
    images = ",".join(str(image_id) for image_id, _, _ in planned)
    yield "training.order_sha256", digest(images), "loader.dataset.planned of positions from loader.batch_sampler"
    flips = "".join(str(int(flip)) for _, flip, _ in planned)
    yield "training.flips_sha256", digest(flips), "loader.dataset.planned of positions from loader.batch_sampler"
    yield "training.step_seeds_sha256", digest(step_numbers(built)), "torch.randint after trainer hooks' before_step"


def step_numbers(built: Built) -> str:
    """Draw one number at the beginning of each of the first steps, as the trainer's hooks seed them."""
    trainer, numbers = built.engine, []
    before = trainer.iter
    for trainer.iter in range(STEPS):
        for hook in trainer.hooks:
            hook.before_step()
        numbers.append(str(int(torch.randint(0, 2**31, (1,)))))
    trainer.iter = before
    return ",".join(numbers)
