"""Schedule, optimizer, and the order of the images."""

import copy
import warnings
from collections.abc import Iterator
from itertools import chain

from detectron2.engine import AMPTrainer

from adapters.detectron2.controls.images import probed_images
from adapters.detectron2.training import SessionHook
from adapters.inspection.control_rows import Row
from adapters.inspection.training_probes import optimizer_rows, order_rows, schedule_rows
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``schedule.*``, ``optimizer.*`` and ``training.*``."""
    yield from schedule_rows(learning_rates(built))
    yield from optimizer_rows(built.optimizer, built.model, "optimizer")
    clip = getattr(built.optimizer, "gradient_clip_norm", None)
    yield "optimizer.gradient_clip_norm", clip, "optimizer.gradient_clip_norm"
    yield "training.precision", precision(built), "type(trainer), dtype of model.parameters()"
    others = [type(hook).__name__ for hook in built.hooks if not isinstance(hook, SessionHook)]
    yield "training.weight_averaging", ", ".join(others) or "none", "other hooks of the trainer than the session's"
    batches, trainer = built.loader.batch_sampler, built.engine
    images = len(next(iter(batches))) * built.session.world_size
    yield "training.batch_size", images, "next(iter(loader.batch_sampler)), times processes"
    mirrors, before = probed_images(built).mirrors(), trainer.iter

    def begin_step(iteration: int) -> None:
        trainer.iter = iteration
        for hook in trainer.hooks:
            hook.before_step()

    yield from order_rows(built, chain.from_iterable(batches), mirrors, begin_step, "loader.batch_sampler")
    trainer.iter = before


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


def precision(built: Built) -> str:
    """Say whether a step computes in anything else than float32."""
    kinds = {str(weight.dtype).removeprefix("torch.") for weight in built.model.parameters()}
    return "mixed" if isinstance(built.engine, AMPTrainer) or len(kinds) > 1 else kinds.pop()
