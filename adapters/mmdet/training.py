"""MMEngine's runner, driven for one training session."""

import os
import re
from typing import Any

import torch
from mmdet.models.task_modules.samplers import PseudoSampler
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import LOOPS, PARAM_SCHEDULERS
from mmengine.runner import IterBasedTrainLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from adapters.training.distributed import distributed_model, mean_over_processes
from adapters.training.parameter_groups import parameter_groups
from adapters.training.shared_sampling import FIRST_STAGE, REGRESSION, RPN
from adapters.training.step_parts import parts
from adapters.training.training_session import TrainingSession
from cascadebench.core.errors import InputError
from cascadebench.study.run import Run

RPN_LOSSES = {"loss_rpn_cls": "rpn_classification", "loss_rpn_bbox": "rpn_regression"}
TASKS = {"cls": "classification", "bbox": "regression", "mask": "mask"}


def loss_name(name: str) -> str:
    """Translate MMDetection's name of a loss term: ``s1.loss_cls`` becomes ``stage2_classification``.

    ``s0.loss_cls3`` is the third classifier's on the first stage's RoIs, ``stage3_classification``.
    """
    if name in RPN_LOSSES:
        return RPN_LOSSES[name]
    stage, task, classifier = re.fullmatch(r"s(\d)\.loss_(cls|bbox|mask)(\d?)", name).groups()
    return f"stage{classifier or int(stage) + 1}_{TASKS[task]}"


def scheduler_config(run: Run) -> list[dict[str, Any]]:
    """Linear warm-up, then steps.

    Raises
    ------
    InputError
        If the warm-up begins at 0: MMEngine multiplies the rate from step to step.
    """
    schedule = run.protocol.schedule
    steps = {"type": "MultiStepLR", "by_epoch": False, "milestones": list(schedule.steps), "gamma": schedule.gamma}
    if not schedule.warmup_iterations:
        return [steps]
    if not schedule.warmup_factor:
        raise InputError("protocol: schedule.warmup_factor: 0; mmdet's warm-up needs a factor above 0")
    # MMEngine's LinearLR reaches the full rate one iteration before its `end`.
    end = schedule.warmup_iterations + 1
    warmup = {"type": "LinearLR", "by_epoch": False, "start_factor": schedule.warmup_factor, "begin": 0, "end": end}
    return [warmup, steps]


def build_optimizer(model: nn.Module, run: Run, accumulation: int = 1) -> OptimWrapper:
    """SGD over the parameters that learn, in MMEngine's wrapper, which steps once in as many passes."""
    settings, base_lr = run.protocol.optimizer, run.protocol.schedule.base_lr
    optimizer = torch.optim.SGD(
        parameter_groups(model, run), lr=base_lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    clip = {"max_norm": settings.gradient_clip_norm, "norm_type": 2} if settings.gradient_clip_norm else None
    return OptimWrapper(optimizer, accumulative_counts=accumulation, clip_grad=clip)


def build_schedulers(optimizer: OptimWrapper, run: Run) -> list:
    """Build MMEngine's learning-rate schedulers."""
    # As the runner would: a scheduler without an end of its own has that of the schedule.
    defaults = {"optimizer": optimizer, "end": run.protocol.schedule.iterations}
    return [PARAM_SCHEDULERS.build(config, default_args=defaults) for config in scheduler_config(run)]


class Schedulers:
    """A runner's schedulers as one object with a state."""

    def __init__(self, schedulers: list) -> None:
        self.schedulers = schedulers

    def state_dict(self) -> dict[str, Any]:
        """State of every scheduler, plain values only."""
        return {"schedulers": [dict(scheduler.state_dict()) for scheduler in self.schedulers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore every scheduler."""
        for scheduler, one in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(one)


@LOOPS.register_module()
class StepLoop(IterBasedTrainLoop):
    """MMEngine's loop over batches, each of which may go through the model in several passes before one step."""

    def run_iter(self, data_batch: dict[str, list]) -> None:
        """Train a step; the losses are the means over its passes."""
        passes = self.runner.optim_wrapper._accumulative_counts
        if passes == 1:
            super().run_iter(data_batch)
            return
        self.runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=data_batch)
        found = []
        for fields in zip(*(parts(values, passes) for values in data_batch.values()), strict=True):
            part = dict(zip(data_batch, fields, strict=True))
            found.append(self.runner.model.train_step(part, optim_wrapper=self.runner.optim_wrapper))
        outputs = {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}
        self.runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=data_batch, outputs=outputs)
        self._iter += 1


def govern_sampling(model: nn.Module, session: TrainingSession) -> None:
    """Let every sampler of the model sample image by image."""
    session.sampling.govern(model.rpn_head.sampler, "sample", RPN)
    for stage, sampler in enumerate(model.roi_head.bbox_sampler):
        if not isinstance(sampler, PseudoSampler):  # which takes all boxes
            session.sampling.govern(sampler, "sample", FIRST_STAGE + stage)
    if hasattr(model.roi_head, "regression_sampler"):
        session.sampling.govern(model.roi_head.regression_sampler, "sample", REGRESSION)


class SessionHook(Hook):
    """Connects MMEngine's loop with the training session."""

    priority = "VERY_LOW"  # after the schedulers' hook: a checkpoint holds the rate of the next step

    def __init__(self, session: TrainingSession, model: nn.Module) -> None:
        self.session, self.model = session, model

    def before_train(self, runner: Runner) -> None:
        """Restore a checkpoint, if there is one."""
        self.session.restore(self.model, runner.optim_wrapper, Schedulers(runner.param_schedulers))
        govern_sampling(self.model, self.session)
        runner.train_loop._iter = self.session.start
        # MMEngine counts passes, not steps.
        passes = self.session.execution.accumulation
        runner.optim_wrapper.initialize_count_status(
            runner.model, self.session.start * passes, self.session.iterations * passes
        )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the step, note its learning rate, and let the RoI heads tell what enters them if it is recorded."""
        self.model.roi_head.recording = self.session.before_iteration(batch_idx)
        self.learning_rate = runner.optim_wrapper.param_groups[0]["lr"]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Hand over the step's losses."""
        terms = {name: value.detach() for name, value in outputs.items() if "loss_" in name}
        losses = {loss_name(name): value for name, value in mean_over_processes(terms).items()}
        # After the preprocessor, which may resize a whole batch once more.
        consumed = [(sample.img_id, sample.flip, min(sample.img_shape)) for sample in data_batch["data_samples"]]
        self.session.after_iteration(batch_idx, losses, self.learning_rate, consumed)

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        self.model.roi_head.recording = None


class SessionRunner(Runner):
    """MMEngine's runner, built whole before it trains; seeds, device, log and files belong to the session."""

    def __init__(self, run: Run, model: nn.Module, loader: DataLoader, session: TrainingSession) -> None:
        self.session = session
        optimizer = build_optimizer(model, run, session.execution.accumulation)
        iterations = session.iterations
        loader.dataset.metainfo = {"classes": run.dataset.categories}  # the loop asks for it
        super().__init__(
            model=model,
            work_dir=os.curdir,  # the runner wants a folder, and writes nothing
            train_dataloader=loader,
            train_cfg={
                "type": "StepLoop",
                "max_iters": iterations,
                "val_interval": iterations + 1,
                "fast_forward_on_resume": True,
            },
            optim_wrapper=optimizer,
            param_scheduler=build_schedulers(optimizer, run),
            # The session logs, seeds and saves; MMEngine steps the schedulers.
            default_hooks=dict.fromkeys(("runtime_info", "timer", "sampler_seed", "logger", "checkpoint")),
            custom_hooks=[SessionHook(session, model)],
            visualizer=Visualizer.get_instance("session"),
            default_scope=None,  # the one in which the model was built
            experiment_name=run.id,
        )
        self._train_loop = self.build_train_loop(self._train_loop)  # `train` takes a loop that is there

    @property
    def optimizer(self) -> OptimWrapper:
        """What steps the weights."""
        return self.optim_wrapper

    @property
    def schedulers(self) -> list:
        """What moves the learning rate."""
        return self.param_schedulers

    @property
    def data_loader(self) -> DataLoader:
        """What reads the batches."""
        return self.train_dataloader

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Set MMEngine up for several processes, without a name of the time for a folder."""
        super().setup_env(env_cfg)
        self._timestamp = ""

    def set_randomness(self, *arguments: Any, **keywords: Any) -> None:
        """Leave the random state to the session, which seeds every step."""
        self._seed = self.session.run.seed
        self._deterministic = False

    def build_logger(self, *arguments: Any, **keywords: Any) -> MMLogger:
        """Return the logger that there is: warnings alone, to no file."""
        logger = MMLogger.get_current_instance()
        logger.setLevel("WARNING")
        return logger

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Describe nothing: asking the compilers for their versions takes a second."""

    def dump_config(self) -> None:
        """Write nothing."""

    def _init_model_weights(self) -> None:
        """Keep the weights that the model came with."""

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Keep the model on the session's device; distribute it when there are several processes."""
        return distributed_model(model, self.session.device, MMDistributedDataParallel)
