"""Probes of the heads: one step of their training on fixed inputs, and what their layers are used for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from adapters.inspection.control_rows import Row
from adapters.inspection.probe_inputs import probe_boxes, probe_features, probe_ground_truth
from adapters.prediction.predict_image import noted

IMAGE = (128, 128)
"""Height and width of the images that the probes' features are of."""


class TaskOutput(NamedTuple):
    """What one task of one head, from 0, gave in training: logits or deltas of RoIs [R, 5], and their loss."""

    head: int
    values: Tensor
    loss: Tensor
    rois: Tensor
    positive: Tensor


@dataclass(frozen=True)
class HeadStep:
    """A step of training: the maps that it began with, and the outputs of both tasks, in the order of the heads."""

    features: list[Tensor]
    classification: list[TaskOutput] = field(default_factory=list)
    regression: list[TaskOutput] = field(default_factory=list)

    def note(self, head: int, logits: Tensor | None, deltas: Tensor | None, losses: Sequence, *rois: Tensor) -> None:
        """Keep what a head gave, its losses of both tasks, and its RoIs [R, 5] with whether each is positive."""
        for values, loss, outputs in zip((logits, deltas), losses, (self.classification, self.regression), strict=True):
            if values is not None:
                outputs.append(TaskOutput(head, values, values.sum() if loss is None else loss, *rois))


@dataclass
class ProbedHeads:
    """A detector's heads, as the probes ask for them; further classifiers of a stage count as heads.

    Attributes
    ----------
    module : CascadeStages, nn.Module
        Holds them all.
    channels : int
        Of the pyramid's maps.
    layers : list of list of nn.Module
        Of every head, the layers before its outputs.
    rois_per_image : int
        RoIs that the first stage samples of an image.
    first_shift : (Tensor, float)
        Biases [4 or 4 * classes] of the first regressor, and the deviation of its targets in x.
    alone : callable
        From a head, maps and RoIs [R, 5] to logits, else deltas, with the whole gradient.
    train : callable
        Trains a step, from maps, proposals, ground truth and labels, from 0, the same for every image of the batch.
    """

    module: Any
    channels: int
    layers: list[list[nn.Module]]
    rois_per_image: int
    first_shift: tuple[Tensor, float]
    alone: Callable[[int, list[Tensor], Tensor], Tensor]
    train: Callable[[list[Tensor], Tensor, Tensor, Tensor], HeadStep]

    def rows(self, digits: int) -> Iterator[Row]:
        """Yield of ``heads.*`` what the probes show; of the trunk's shares of gradients so many digits."""
        stages, classifiers = self.counts_at_test()
        yield "heads.stages", stages, "probe: boxes that run_stages() gives"
        yield "heads.classifiers", classifiers, "probe: logits that run_stages() gives"
        where = "probe: gradient at the pyramid over that without scaling"
        yield "heads.trunk_gradient", self.trunk_gradients(digits), where
        yield "heads.trunks_run", self.heads_run(), "probe: hooks on the layers of the heads"
        where = "probe: gradients of a step's losses at the layers of the heads"
        yield "heads.task_branches", self.task_branches(), where
        yield "heads.classifier_trains", self.heads_trained("classification"), where
        yield "heads.regressor_trains", self.heads_trained("regression"), where
        for prefix, task in (("", "classification"), ("regression_", "regression")):
            entering, positives = self.entering(task)
            yield f"heads.{prefix}rois_entering", entering, "probe: what the losses of a step get"
            yield f"heads.{prefix}positives_entering", positives, "probe: what the losses of a step get"

    @torch.no_grad()
    def counts_at_test(self) -> tuple[int, int]:
        """Count what testing gives for every RoI: boxes of regressors, scores of classifiers."""
        self.module.eval()
        features = self.module.held(probe_features(self.channels, 1))
        outputs = self.module.run_stages(features, probe_boxes(5), IMAGE, [])
        self.module.train()
        return len(outputs.boxes), len(outputs.logits)

    @cached_property
    def step(self) -> HeadStep:
        """A step of training on the probes' maps, which get gradients, and boxes."""
        return self._new_step()

    def _new_step(self) -> HeadStep:
        # There are so few proposals that sampling takes them all, unless the positives exceed their share.
        features = [level.requires_grad_() for level in probe_features(self.channels)]
        torch.manual_seed(0)
        return self.train(features, probe_boxes()[: self.rois_per_image // 2], *probe_ground_truth())

    @cached_property
    @torch.no_grad()
    def moved_step(self) -> HeadStep:
        """A step where the first stage moves all proposals onto the ground truth: more than any share of positives."""
        truth = torch.tensor([[40.0, 40.0, 80.0, 80.0]])
        proposals = torch.tensor([[24.0, 40.0, 64.0, 80.0]]).repeat(self.rois_per_image // 2, 1)  # IoU .43
        bias, deviation = self.first_shift
        before = bias.clone()
        bias.view(-1, 4)[:, 0] += 0.4 / deviation  # .4 of a box to the right
        torch.manual_seed(0)
        try:
            return self.train(probe_features(self.channels), proposals, truth, torch.zeros(1, dtype=torch.long))
        finally:
            bias.copy_(before)

    def entering(self, task: str) -> tuple[list[int], list[int]]:
        """Count, for every head with a task, the RoIs that train it and the positives among them."""
        after_moving = getattr(self.moved_step, task)
        # Where a later stage does not train on what the stage before regressed, these counts say so.
        differ = len({len(output.positive) for output in after_moving}) > 1
        outputs = after_moving if differ else getattr(self.step, task)
        return [len(one.positive) for one in outputs], [int(one.positive.sum()) for one in outputs]

    @cached_property
    def _outputs(self) -> list[TaskOutput]:
        """One output of every head: its classifier's, else its regressor's."""
        outputs = {output.head: output for output in (*self.step.regression, *self.step.classification)}
        return [outputs[head] for head in sorted(outputs)]

    def trunk_gradients(self, digits: int) -> list[float | None]:
        """Probe the share of each head's gradient that reaches the trunk, rounded.

        Compares what a head gave in training with what its layers give of the same RoIs by themselves.
        """
        features = self.step.features
        alone = [self.alone(output.head, features, output.rois) for output in self._outputs]
        pairs = zip(self._outputs, alone, strict=True)
        return [gradient_share(output.values, values, features[0], digits) for output, values in pairs]

    @torch.no_grad()
    def heads_run(self) -> list[list[int]]:
        """Probe for every head the heads, from 1, whose layers run on its RoIs."""
        layers = dict(enumerate(self.layers, start=1))
        runs = [partial(self.alone, output.head, self.step.features, output.rois) for output in self._outputs]
        return [sorted(outputs_of(layers, run)) for run in runs]

    def heads_trained(self, task: str) -> list[list[int]]:
        """For every head with a task, the heads, from 1, whose layers get a gradient from its loss, be it of zero."""
        weights = [[weight for layer in head for weight in layer.parameters()] for head in self.layers]
        return [
            [number for number, own in enumerate(weights, start=1) if any(reached(output.loss, own))]
            for output in getattr(self.step, task)
        ]

    def task_branches(self) -> str:
        """Say whether the losses of the first stage train the same layers of the first head."""
        weights = [weight for layer in self.layers[0] for weight in layer.parameters()]
        firsts = self.step.classification[0], self.step.regression[0]
        classification, regression = (reached(output.loss, weights) for output in firsts)
        if classification == regression:
            return "shared"
        both = any(one and other for one, other in zip(classification, regression, strict=True))
        return "partly shared" if both else "unshared"

    def trained_on(self, branches: Sequence[nn.Module]) -> list[int]:
        """Count the RoIs that train each mask branch in a step."""
        if not branches:
            return []
        outputs = outputs_of({number: [branch] for number, branch in enumerate(branches)}, self._new_step)
        return [len(given[-1]) for given in outputs.values()]


@contextmanager
def recorded(heads: Iterable[nn.Module], method: str, note: Callable[..., None]) -> Iterator[None]:
    """Note what a method of each head is given while the block runs: head from 0, what it returned, arguments."""
    with ExitStack() as spies:
        for number, head in enumerate(heads):
            spies.enter_context(noted(head, method, partial(note, number)))
        yield


def outputs_of(layers: Mapping[int, Iterable[nn.Module]], run: Callable[[], Any]) -> dict[int, list[Tensor]]:
    """Collect what layers give while something runs, by the key of their group; groups that do not run are left out."""
    outputs: dict[int, list[Tensor]] = {}

    def note(key: int, _layer: nn.Module, _inputs: tuple, given: Tensor) -> None:
        outputs.setdefault(key, []).append(given)

    with ExitStack() as hooks:
        for key, group in layers.items():
            for layer in group:
                hooks.enter_context(layer.register_forward_hook(partial(note, key)))
        run()
    return outputs


def reached(loss: Tensor, weights: Sequence[Tensor]) -> list[bool]:
    """Say of each weight whether it gets a gradient from a loss, be it of zero."""
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True) if weights else ()
    return [gradient is not None for gradient in gradients]


def gradient_share(trained: Tensor, alone: Tensor, features: Tensor, digits: int = 6) -> float | None:
    """Ratio of the gradients, at a feature map, of what training gives and of what layers give by themselves.

    None: the layers by themselves give no gradient.
    """
    norms = []
    for values in (trained, alone):
        (gradient,) = torch.autograd.grad(values.square().sum(), features, retain_graph=True, allow_unused=True)
        norms.append(0.0 if gradient is None else float(gradient.double().norm()))
    return round(norms[0] / norms[1], digits) if norms[1] else None
