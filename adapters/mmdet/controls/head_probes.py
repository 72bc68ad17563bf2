"""Probes of the heads: one step of their training on fixed inputs, and what their layers are used for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from adapters.inspection.probe_inputs import probe_bitmaps, probe_boxes, probe_features, probe_ground_truth
from adapters.mmdet.sampling import DecoupledRoIHeads
from adapters.mmdet.stages import ControlledRoIHeads

IMAGE = (128, 128)


@dataclass(frozen=True)
class TaskOutput:
    """What one task of one head gave in training.

    Attributes
    ----------
    head : int
        From 0.
    values : Tensor, float [R, ...]
        Logits or deltas.
    rois : Tensor, float [R, 5]
        Image, x1, y1, x2, y2.
    positive : Tensor, bool [R]
        Whether a RoI is positive.
    """

    head: int
    values: Tensor
    rois: Tensor
    positive: Tensor


@dataclass
class HeadStep:
    """A step of training: outputs of every classifier and of every regressor, in the order of the heads."""

    classification: list[TaskOutput]
    regression: list[TaskOutput]


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Put weights and statistics back afterwards."""
    kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    yield
    for name, tensor in module.state_dict().items():
        tensor.data.copy_(kept[name])  # autograd does not see it: a graph over these weights stays valid


def train_heads(
    roi_head: ControlledRoIHeads, features: list[Tensor], proposals: Tensor, truth: Tensor, labels: Tensor
) -> HeadStep:
    """Train the heads for one step on images of the same boxes, one for each map of a batch; record their losses."""
    images, step = len(features[0]), HeadStep([], [])
    classes = roi_head.bbox_head[0].num_classes

    def recording(number: int) -> Any:
        loss = roi_head.bbox_head[number].loss

        def record(logits: Tensor | None, deltas: Tensor | None, rois: Tensor, labels: Tensor, *others, **keywords):
            for values, outputs in ((logits, step.classification), (deltas, step.regression)):
                if values is not None:
                    outputs.append(TaskOutput(number, values, rois, labels < classes))
            return loss(logits, deltas, rois, labels, *others, **keywords)

        return record

    samples = [_sample(truth, labels % classes) for _ in range(images)]
    given = [_proposals(roi_head, proposals) for _ in range(images)]
    torch.manual_seed(0)
    with unchanged(roi_head), ExitStack() as spies:
        for number, head in enumerate(roi_head.bbox_head):
            spies.enter_context(patch.object(head, "loss", recording(number)))
        roi_head.loss(tuple(features), given, samples)
    return step


def _proposals(roi_head: ControlledRoIHeads, boxes: Tensor) -> Any:
    """Proposals of one image: one list, or the same one for each task."""
    lists = [InstanceData(bboxes=boxes.clone()) for _ in range(2)]
    return tuple(lists) if isinstance(roi_head, DecoupledRoIHeads) else lists[0]


def _sample(truth: Tensor, labels: Tensor) -> DetDataSample:
    """An image with ground truth."""
    sample = DetDataSample(metainfo={"img_shape": IMAGE, "pad_shape": IMAGE})
    sample.gt_instances = InstanceData(bboxes=truth.clone(), labels=labels, masks=probe_bitmaps(truth))
    sample.ignored_instances = InstanceData(bboxes=truth[:0], labels=labels[:0])
    return sample


def fixed_step(roi_head: ControlledRoIHeads, channels: int) -> tuple[list[Tensor], HeadStep]:
    """Train on the probes' maps, which get gradients, and boxes."""
    features = [level.requires_grad_() for level in probe_features(channels)]
    return features, train_heads(roi_head, features, probe_boxes()[:16], *probe_ground_truth())


def stage_of(roi_head: ControlledRoIHeads, head: int) -> int:
    """The stage whose RoIs a head reads: its own, or the first one's for a further classifier."""
    return head if head < roi_head.num_stages else 0


def trunk_gradients(roi_head: ControlledRoIHeads, channels: int) -> list[float]:
    """Probe the share of each head's gradient that reaches the trunk.

    Backpropagates what a head gave in training, and what its layers give of the same RoIs by themselves; the ratio of
    the gradients at the finest map is the share.
    """
    features, step = fixed_step(roi_head, channels)
    shares = []
    for number, head in enumerate(roi_head.bbox_head):
        outputs = step.classification if head.with_cls else step.regression
        trained = next(output for output in outputs if output.head == number)
        extractor = roi_head.bbox_roi_extractor[stage_of(roi_head, number)]
        with unchanged(roi_head):
            pooled = extractor(tuple(features)[: extractor.num_inputs], trained.rois)
            logits, deltas = roi_head.stage_outputs(stage_of(roi_head, number), pooled)
        position = number - stage_of(roi_head, number)
        alone = logits[position] if head.with_cls else deltas
        norms = [_gradient(values, features[0]).double().norm() for values in (trained.values, alone)]
        shares.append(round(float(norms[0] / norms[1]), 6))
    return shares


def _gradient(values: Tensor, features: Tensor) -> Tensor:
    """Gradient of the squared values at a feature map."""
    return torch.autograd.grad(values.square().sum(), features, retain_graph=True)[0]


def layers(head: nn.Module) -> list[nn.Module]:
    """Everything of a head before its outputs."""
    found = [layer for name in ("shared_fcs", "cls_fcs", "reg_fcs") for layer in getattr(head, name, ())]
    convolutions = getattr(head, "regression_convolutions", None)
    return found if convolutions is None else [*found, *convolutions.blocks]


@torch.no_grad()
def layers_run(roi_head: ControlledRoIHeads, channels: int) -> list[list[int]]:
    """Probe for every head the heads, from 1, whose layers run on its RoIs."""
    size = roi_head.bbox_roi_extractor[0].roi_layers[0].output_size
    pooled = torch.randn(4, channels, *size, generator=torch.Generator().manual_seed(0))
    found = []
    for number in range(len(roi_head.bbox_head)):
        inputs: dict[int, list[Any]] = {other: [] for other in range(1, len(roi_head.bbox_head) + 1)}
        with unchanged(roi_head), ExitStack() as hooks:
            for head, seen in zip(roi_head.bbox_head, inputs.values(), strict=True):
                for layer in layers(head):
                    hooks.enter_context(layer.register_forward_hook(lambda *given, seen=seen: seen.append(given[1])))
            roi_head.stage_outputs(stage_of(roi_head, number), pooled)
        found.append([other for other, seen in inputs.items() if seen])
    return found


def heads_trained(roi_head: ControlledRoIHeads, output: TaskOutput) -> list[int]:
    """The heads, from 1, whose layers get a gradient from an output, be it of zero."""
    found = []
    for number, head in enumerate(roi_head.bbox_head, start=1):
        parameters = [parameter for layer in layers(head) for parameter in layer.parameters()]
        if parameters:
            total = output.values.sum()
            gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
            if any(gradient is not None for gradient in gradients):
                found.append(number)
    return found
