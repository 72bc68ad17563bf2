"""What the heads make of given RoIs, and their losses, against plain computations from the variant's card."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from adapters.detector.variant_module import variant_reference
from adapters.inspection.head_probes import TaskOutput
from adapters.inspection.probe_inputs import probe_ground_truth
from adapters.training.stage_recording import box_deltas
from adapters.witness.quantities import summary
from adapters.witness.subject import Subject
from cascadebench.controls.witness import Quantity
from cascadebench.study.run import Run

ROIS = 6
"""Pooled RoIs that the heads are given."""
Weights = Mapping[str, Tensor]
"""Tensors of a detector by their common names."""
Features = Callable[[int, str], Tensor]
"""From a head, from 0, and a task to what its layers make of the given RoIs."""


def head_quantities(subject: Subject) -> Iterator[Quantity]:
    """Note outputs and gradients of every stage, and what the card says that they are."""
    run, heads, weights = subject.built.run, subject.stages, subject.tensors("heads.", "variant.")
    size = run.protocol.heads.pool_size
    pooled = torch.randn(ROIS, run.protocol.neck.channels, size, size, generator=torch.Generator().manual_seed(0))
    for stage in sorted(set(heads.test_row)):  # one head may be applied several times
        logits, deltas = heads.stage_outputs(stage, pooled)
        given = _noted(logits, deltas, weights)
        plainly = plain_outputs(run, stage, pooled, weights)
        wanted = {} if plainly is None else _noted(*plainly, weights)
        for name, value in given.items():
            expected = wanted.get(name) if wanted else None
            yield Quantity(step="heads", name=f"{name} of stage {stage + 1}", value=value, wanted=expected)


def _noted(logits: list[Tensor], deltas: Tensor | None, weights: Weights) -> dict[str, list]:
    """Outputs, and the gradients that they send into the weights."""
    outputs = [*logits, *([] if deltas is None else [deltas])]
    learning = {name: tensor for name, tensor in weights.items() if tensor.requires_grad}
    loss = sum(output.square().sum() for output in outputs)
    gradients = torch.autograd.grad(loss, list(learning.values()), allow_unused=True)
    reached = {name: summary(one) for name, one in zip(learning, gradients, strict=True) if one is not None}
    return {
        "logits": [summary(one) for one in logits],
        "deltas": [] if deltas is None else summary(deltas),
        "weights reached": sorted(reached),
        "gradients": [reached[name] for name in sorted(reached)],
    }


def plain_outputs(run: Run, stage: int, pooled: Tensor, weights: Weights) -> tuple[list[Tensor], Tensor | None] | None:
    """Logits and deltas of a stage by the card; None where nobody has written the computation out.

    Two linear layers, shared or a pair for each task, then a linear classifier and regressor. A variant whose stages
    read something else has a module ``reference.py`` with ``features(run, stage, own, weights)``, which gives what
    classifier and regressor read.
    """

    def own(head: int, task: str) -> Tensor:
        values = pooled.flatten(1)
        shared = f"heads.{head + 1}.fc1.weight" in weights
        for layer in (1, 2):
            name = f"heads.{head + 1}.fc{layer}" if shared else f"heads.{head + 1}.{task}.fc{layer}"
            values = F.relu(F.linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"]))
        return values

    reference, tasks = variant_reference(run), ("classification", "regression")
    try:
        if reference is None:
            read = {task: own(stage, task) for task in tasks if _has(weights, stage, task)}
        else:
            read = dict(zip(tasks, reference.features(run, stage, own, weights), strict=True))
    except KeyError:  # layers of another kind
        return None
    outputs = {}
    for task, layer in zip(tasks, ("classifier", "regressor"), strict=True):
        name = f"heads.{stage + 1}.{layer}"
        if f"{name}.weight" in weights:
            outputs[task] = F.linear(read[task], weights[f"{name}.weight"], weights[f"{name}.bias"])
    logits = [outputs["classification"]] if "classification" in outputs else []
    # Further classifiers of a stage read the same feature.
    further = range(run.variant.stages, run.variant.heads) if stage == 0 else ()
    for head in further:
        name = f"heads.{head + 1}.classifier"
        logits.append(F.linear(read["classification"], weights[f"{name}.weight"], weights[f"{name}.bias"]))
    return logits, outputs.get("regression")


def _has(weights: Weights, stage: int, task: str) -> bool:
    layer = {"classification": "classifier", "regression": "regressor"}[task]
    return f"heads.{stage + 1}.{layer}.weight" in weights


def loss_quantities(subject: Subject) -> Iterator[Quantity]:
    """Train the heads on given maps and boxes; every loss beside what the controls that were read back make of it."""
    step, run = subject.framework.probed_heads(subject.built).step, subject.built.run
    truth, labels = probe_ground_truth()
    labels = labels % len(run.dataset.categories)
    for task, outputs, plainly in (
        ("classification", step.classification, plain_classification),
        ("regression", step.regression, plain_regression),
    ):
        for output in outputs:
            wanted = None
            if subject.aligned:
                settings = {name: subject.controls[f"heads.{name}"][output.head] for name in OF_HEADS[task]}
                settings["smooth_l1_beta"] = run.protocol.heads.smooth_l1_beta
                wanted = [float(plainly(settings, output, truth, labels).detach())]
            name = f"{task} of head {output.head + 1}"
            value = [float(output.loss.detach())]
            yield Quantity(step="losses of the heads", name=name, value=value, wanted=wanted)


OF_HEADS = {
    "classification": ("iou_threshold", "classification_loss_weight"),
    "regression": ("iou_threshold", "regression_loss_weight", "target_stds"),
}
"""Controls of every head that its losses follow from; the audit compares them with the protocol and the card."""
Settings = Mapping[str, Any]
"""These controls of one head, and the protocol's ``smooth_l1_beta``."""


def matched(settings: Settings, rois: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Which RoIs [R, 5] are positive, bool [R], and the place of each one's ground truth, int64 [R]."""
    overlaps, best = box_iou(rois[:, 1:], truth).max(1)
    return overlaps >= settings["iou_threshold"], best


def plain_classification(settings: Settings, output: TaskOutput, truth: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over all classes and background, the mean over the RoIs, times the stage's weight."""
    positive, best = matched(settings, output.rois, truth)
    wanted = torch.where(positive, labels[best], output.values.shape[1] - 1)
    return settings["classification_loss_weight"] * F.cross_entropy(output.values, wanted)


def plain_regression(settings: Settings, output: TaskOutput, truth: Tensor, labels: Tensor) -> Tensor:
    """Smooth L1 of the positives' normalised deltas, divided by the number of all RoIs, times the stage's weight."""
    positive, best = matched(settings, output.rois, truth)
    rows = positive.nonzero()[:, 0]
    deltas = output.values[rows]
    if deltas.shape[1] > 4:
        deltas = deltas.reshape(len(rows), -1, 4)[torch.arange(len(rows)), labels[best[rows]]]
    targets = box_deltas(output.rois[rows, 1:], truth[best[rows]]) / torch.tensor(settings["target_stds"])
    missed, beta = (deltas - targets).abs(), settings["smooth_l1_beta"]
    loss = torch.where(missed < beta, missed.square() / (2 * beta or 1.0), missed - beta / 2)
    return settings["regression_loss_weight"] * loss.sum() / len(output.rois)
