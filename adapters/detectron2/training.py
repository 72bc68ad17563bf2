"""Detectron2's trainer, driven for one training session."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.engine import HookBase, SimpleTrainer
from detectron2.solver import LRMultiplier, WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler, ParamScheduler
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from adapters.training.distributed import distributed_model, mean_over_processes
from adapters.training.parameter_groups import parameter_groups
from adapters.training.shared_sampling import FIRST_STAGE, REGRESSION, RPN
from adapters.training.step_parts import parts
from adapters.training.training_session import TrainingSession
from cascadebench.core.errors import InputError
from cascadebench.study.run import Run

LOSS_NAMES = {
    "loss_rpn_cls": "rpn_classification",
    "loss_rpn_loc": "rpn_regression",
    "loss_cls": "classification",
    "loss_box_reg": "regression",
    "loss_mask": "mask",
}


def loss_name(name: str) -> str:
    """Translate Detectron2's name of a loss term: ``loss_cls_stage1`` becomes ``stage2_classification``."""
    term, _, stage = name.partition("_stage")
    return f"stage{int(stage) + 1}_{LOSS_NAMES[term]}" if stage else LOSS_NAMES[term]


class ClippedSGD(torch.optim.SGD):
    """SGD that first scales the whole gradient down to an L2 norm, as Detectron2's optimizers with clipping do.

    Parameters
    ----------
    gradient_clip_norm : float or None
        Greatest norm over all parameters together; None: no clipping.
    """

    def __init__(self, params: Any, *, gradient_clip_norm: float | None, **arguments: Any) -> None:
        super().__init__(params, **arguments)
        self.gradient_clip_norm = gradient_clip_norm

    def step(self, closure: Callable | None = None) -> Any:
        """Clip, then step."""
        if self.gradient_clip_norm is not None:
            every = [parameter for group in self.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(every, self.gradient_clip_norm)
        return super().step(closure)


def build_optimizer(model: nn.Module, run: Run) -> ClippedSGD:
    """SGD over the parameters that learn; biases may have settings of their own."""
    optimizer, base_lr = run.protocol.optimizer, run.protocol.schedule.base_lr
    return ClippedSGD(
        parameter_groups(model, run), lr=base_lr, momentum=optimizer.momentum, weight_decay=optimizer.weight_decay,
        nesterov=False, gradient_clip_norm=optimizer.gradient_clip_norm,
    )  # fmt: skip


def build_schedulers(optimizer: torch.optim.Optimizer, run: Run) -> list[LRMultiplier]:
    """Linear warm-up, then steps.

    Raises
    ------
    InputError
        If Detectron2 would step at other iterations than the protocol says: it compares progress, in shares of the
        whole schedule, to six digits, which is too coarse for schedules of a million iterations.
    """
    schedule = run.protocol.schedule
    multiplier: ParamScheduler = MultiStepParamScheduler(
        values=[schedule.gamma**number for number in range(len(schedule.steps) + 1)],
        milestones=list(schedule.steps),
        num_updates=schedule.iterations,
    )
    if schedule.warmup_iterations:
        length = schedule.warmup_iterations / schedule.iterations
        multiplier = WarmupParamScheduler(multiplier, schedule.warmup_factor, length, "linear")
    edges = (schedule.warmup_iterations, *schedule.steps)
    for iteration in sorted({max(edge + shift, 0) for edge in edges for shift in (-1, 0)}):
        wanted = schedule.learning_rate(iteration)
        given = schedule.base_lr * multiplier(iteration / schedule.iterations)
        if abs(given - wanted) > 1e-9 * wanted:
            raise InputError(
                f"protocol: schedule.iterations: {schedule.iterations} are too many for detectron2's scheduler, which "
                f"gives {given:.6g} at iteration {iteration} in place of {wanted:.6g}"
            )
    return [LRMultiplier(optimizer, multiplier, max_iter=schedule.iterations)]


class SessionHook(HookBase):
    """Connects Detectron2's loop with the training session.

    Parameters
    ----------
    model : nn.Module
        The detector itself, not what distributes it: its tensors' names are those of the checkpoint.
    """

    def __init__(self, session: TrainingSession, model: nn.Module) -> None:
        self.session, self.model = session, model
        self.consumed: list[tuple[int, bool, int]] = []

    def before_train(self) -> None:
        """Restore a checkpoint, if there is one, and begin to note what the model is given."""
        govern_sampling(self.model, self.session)
        self._noting = self.model.register_forward_pre_hook(self._note)
        (scheduler,) = self.trainer.schedulers
        self.session.restore(self.model, self.trainer.optimizer, scheduler)

    def _note(self, model: nn.Module, inputs: tuple[list[dict[str, Any]]]) -> None:
        """Keep ids, flips and sizes of what enters the model, pass by pass."""
        self.consumed += [(image["image_id"], image["flip"], min(image["image"].shape[1:])) for image in inputs[0]]

    def before_step(self) -> None:
        """Seed the step, and let the RoI heads tell what enters them if it is recorded."""
        self.consumed = []
        self.model.roi_heads.recording = self.session.before_iteration(self.trainer.iter)

    def after_step(self) -> None:
        """Move the learning rate on, then hand over the step: a checkpoint holds the rate of the next one."""
        learning_rate = self.trainer.optimizer.param_groups[0]["lr"]
        for scheduler in self.trainer.schedulers:
            scheduler.step()
        losses = {loss_name(name): value for name, value in mean_over_processes(self.trainer.losses).items()}
        self.session.after_iteration(self.trainer.iter, losses, learning_rate, self.consumed)

    def after_train(self) -> None:
        """Leave the model as it was."""
        self._noting.remove()
        self.model.roi_heads.recording = None


def govern_sampling(model: nn.Module, session: TrainingSession) -> None:
    """Let every sampler of the model sample image by image."""
    session.sampling.govern(model.proposal_generator, "_subsample_labels", RPN)
    session.sampling.govern(model.roi_heads, "_sample_proposals", FIRST_STAGE)
    if hasattr(model.roi_heads, "regression_sampler"):
        session.sampling.govern(model.roi_heads.regression_sampler, "_sample_proposals", REGRESSION)


class SessionTrainer(SimpleTrainer):
    """Detectron2's trainer, which keeps the losses of the last step for the session instead of logging them itself.

    A step may have several passes, each over a part of the batch.
    """

    losses: dict[str, torch.Tensor]

    def __init__(self, run: Run, model: nn.Module, loader: DataLoader, session: TrainingSession) -> None:
        optimizer = build_optimizer(model, run)
        super().__init__(distributed_model(model, session.device), loader, optimizer)
        self.session = session
        self.schedulers = build_schedulers(optimizer, run)
        self.accumulation = session.execution.accumulation
        self.register_hooks([SessionHook(session, model)])

    @property
    def hooks(self) -> list[HookBase]:
        """What takes part in the loop."""
        return self._hooks

    def train(self) -> None:
        """Train from the session's first iteration to the last."""
        super().train(self.session.start, self.session.iterations)

    def run_step(self) -> None:
        """Train a step; the losses are the means over its passes."""
        if self.accumulation == 1:
            super().run_step()
            return
        batch = next(self._data_loader_iter)
        self.optimizer.zero_grad()
        means: dict[str, torch.Tensor] = {}
        for number, part in enumerate(parts(batch, self.accumulation), start=1):
            # Processes exchange their gradients once, in the last pass.
            alone = number < self.accumulation and isinstance(self.model, DistributedDataParallel)
            with self.model.no_sync() if alone else nullcontext():
                losses = {name: loss / self.accumulation for name, loss in self.model(part).items()}
                sum(losses.values()).backward()
            means = {name: means.get(name, 0.0) + loss.detach() for name, loss in losses.items()}
        self.after_backward()
        self._write_metrics(means)
        self.optimizer.step()

    def _write_metrics(self, loss_dict: Mapping[str, torch.Tensor], *ignored: Any, **also_ignored: Any) -> None:
        self.losses = {name: value.detach() for name, value in loss_dict.items()}
