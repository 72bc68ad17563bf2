"""Probes of the stages' behaviour, on fixed inputs."""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from unittest.mock import patch

import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from adapters.detectron2.box_heads import StageOutputLayers
from adapters.detectron2.sampling import DecoupledRoIHeads
from adapters.detectron2.stages import ControlledRoIHeads
from adapters.inspection.probe_inputs import probe_bitmaps, probe_boxes, probe_features, probe_ground_truth

SIZE = (128, 128)
IMAGES = 2


@torch.no_grad()
def test_counts(heads: ControlledRoIHeads, channels: int) -> tuple[int, int]:
    """Count what testing gives for every RoI: boxes of regressors, scores of classifiers."""
    heads.eval()
    maps = dict(zip(heads.box_in_features, probe_features(channels, 1), strict=False))
    outputs = heads.run_stages(maps, probe_boxes(5), SIZE, [])
    return len(outputs.boxes), len(outputs.logits)


def trunk_gradients(heads: ControlledRoIHeads, channels: int) -> list[float]:
    """Probe the share of each stage's gradient that reaches the trunk.

    Takes the gradient through a stage as it trains, and through pooler and layers alone; the ratio at the feature map
    is the share.
    """
    heads.train()
    boxes = Boxes(torch.tensor([[8.0, 8.0, 100.0, 90.0], [20.0, 30.0, 60.0, 50.0]]))
    proposals = [Instances(SIZE, proposal_boxes=boxes)]
    maps = [one.requires_grad_() for one in probe_features(channels, 1)[: len(heads.box_in_features)]]
    shares = []
    for stage in range(len(heads.box_predictor)):
        plain = heads.stage_forward(stage, heads.box_pooler(maps, [boxes]))
        trained = heads._run_stage(maps, proposals, stage)
        norms = [float(_gradient(output, maps[0]).double().norm()) for output in (trained, plain)]
        shares.append(round(norms[0] / norms[1], 7))
    return shares


def _gradient(outputs: tuple[Tensor | None, Tensor | None], features: Tensor) -> Tensor:
    """Gradient of the sum of squares of logits and deltas, as far as a stage has them."""
    total = sum(output.square().sum() for output in outputs if output is not None)
    return torch.autograd.grad(total, features)[0]


@torch.no_grad()
def layers_run(heads: ControlledRoIHeads, channels: int) -> list[list[int]]:
    """Return, for every stage, the heads, from 1, whose layers run on its RoIs."""
    heads.eval()
    pooled = torch.randn(2, channels, *heads.box_pooler.output_size, generator=torch.Generator().manual_seed(0))
    return [_heads_that_run(heads, stage, pooled) for stage in range(len(heads.box_predictor))]


def _heads_that_run(heads: ControlledRoIHeads, stage: int, pooled: Tensor) -> list[int]:
    found: set[int] = set()
    with ExitStack() as hooks:
        for number, head in enumerate(heads.box_head, start=1):
            for layer in head.modules():
                if isinstance(layer, (nn.Linear, nn.Conv2d)):
                    hook = layer.register_forward_hook(lambda *_given, number=number: found.add(number))
                    hooks.callback(hook.remove)
        heads.stage_forward(stage, pooled)
    return sorted(found)


@torch.no_grad()
def level_map(heads: ControlledRoIHeads) -> list[int]:
    """Return the pyramid level, 0 for the finest, from which each of the fixed boxes is pooled."""
    # Maps of a 1024 x 1024 image that hold their own level, and boxes large enough for all levels.
    maps = [
        torch.full((1, 1, 256 // 2**level, 256 // 2**level), float(level))
        for level in range(len(heads.box_in_features))
    ]
    pooled = heads.box_pooler(maps, [Boxes(8 * probe_boxes())])
    return pooled.flatten(1).amax(1).round().int().tolist()


@dataclass
class TrainedBatch:
    """What one pass of training over a fixed batch gave.

    Attributes
    ----------
    losses : dict of str to Tensor
        As Detectron2 names them.
    labels : dict of (str, int) to Tensor, int64 [R]
        By ``loss_cls`` or ``loss_box_reg`` and the stage: the classes of the RoIs that count in that loss.
    """

    losses: dict[str, Tensor]
    labels: dict[tuple[str, int], Tensor]


def trained_batch(heads: ControlledRoIHeads, channels: int) -> TrainedBatch:
    """Train on a fixed batch, without a step.

    There are so few proposals that sampling takes them all, unless the positives exceed their share. Where
    classification and regression have proposals of their own, both get the same.
    """
    heads.train()
    boxes, labels = probe_ground_truth()
    target = Instances(SIZE, gt_boxes=Boxes(boxes), gt_classes=labels % heads.num_classes, bitmaps=probe_bitmaps(boxes))
    chosen = probe_boxes()[: min(heads.batch_size_per_image // 2, 60)]
    one = Instances(SIZE, proposal_boxes=Boxes(chosen), objectness_logits=torch.zeros(len(chosen)))
    proposals = [(one, one) if isinstance(heads, DecoupledRoIHeads) else one] * IMAGES
    features = dict(zip(heads.box_in_features, probe_features(channels, IMAGES), strict=False))
    torch.manual_seed(0)
    with EventStorage(), ExitStack() as spies:
        losses = [spies.enter_context(patch.object(one, "losses", wraps=one.losses)) for one in heads.box_predictor]
        _, terms = heads(None, features, proposals, [target] * IMAGES)
    entered = {}
    for stage, spy in enumerate(losses):
        for call in spy.call_args_list:
            predictions, rois = call.args
            for term, given in zip(("loss_cls", "loss_box_reg"), predictions, strict=True):
                if given is not None:
                    entered[term, stage] = torch.cat([image.gt_classes for image in rois])
    return TrainedBatch(terms, entered)


def rois_entering(batch: TrainedBatch, term: str, classes: int) -> tuple[list[int], list[int]]:
    """Count, for every stage with a loss, the RoIs that count in it and the positives among them."""
    labels = [found for (name, _), found in sorted(batch.labels.items()) if name == term]
    return [len(one) for one in labels], [int(((one >= 0) & (one < classes)).sum()) for one in labels]


def heads_trained(heads: ControlledRoIHeads, batch: TrainedBatch, term: str) -> list[list[int]]:
    """Return, for every stage with a loss, the heads, from 1, whose layers get a gradient from it."""
    return [
        [number for number, head in enumerate(heads.box_head, start=1) if any(_trained(batch, term, stage, head))]
        for name, stage in sorted(batch.labels)
        if name == term
    ]


def task_branches(heads: ControlledRoIHeads, batch: TrainedBatch) -> str:
    """Say whether the losses of the first stage train the same layers of the first head."""
    classification, regression = (_trained(batch, term, 0, heads.box_head[0]) for term in ("loss_cls", "loss_box_reg"))
    if classification == regression:
        return "shared"
    both = any(one and other for one, other in zip(classification, regression, strict=True))
    return "partly shared" if both else "unshared"


def _trained(batch: TrainedBatch, term: str, stage: int, head: nn.Module) -> list[bool]:
    """Say of each parameter of a head's layers whether a loss reaches it."""
    parameters = list(head.parameters())
    gradients = torch.autograd.grad(
        batch.losses[f"{term}_stage{stage}"], parameters, retain_graph=True, allow_unused=True
    )
    return [gradient is not None for gradient in gradients]


def classification_loss(predictor: StageOutputLayers) -> str:
    """Say whether losses of two sets of scores relate to each other as their cross-entropies do."""
    first, second = (_losses(predictor, scale) for scale in (1.0, 3.0))
    ratio = first["loss_cls"] / second["loss_cls"]
    return "cross_entropy" if math.isclose(ratio, first["entropy"] / second["entropy"], rel_tol=1e-4) else "other"


def loss_normalizer(predictor: StageOutputLayers) -> str:
    """Say what divides the losses: all RoIs, the positive ones, or something else."""
    losses = _losses(predictor, 1.0)
    divisors = [
        losses[whole] / max(losses[term], 1e-12)
        for term, whole in (("loss_cls", "entropy"), ("loss_box_reg", "distance"))
        if term in losses
    ]
    for name, value in (("RoIs", 7), ("positives", 3)):
        if all(math.isclose(divisor, value, rel_tol=1e-3) for divisor in divisors):
            return name
    return "other"


@torch.no_grad()
def _losses(predictor: StageOutputLayers, scale: float) -> dict[str, float]:
    """Losses of seven RoIs in two images, three of them positive, without their weights, and what they are sums of.

    Every RoI is its own ground truth, and the deltas so great that how small errors are smoothed has no part.
    """
    classes = predictor.num_classes
    labels = torch.tensor([0, classes, 0, classes, classes, 0, classes])
    boxes = probe_boxes(len(labels))
    parts = [
        Instances(SIZE, proposal_boxes=Boxes(boxes[part]), gt_boxes=Boxes(boxes[part]), gt_classes=labels[part])
        for part in (slice(0, 5), slice(5, 7))
    ]
    scores = scale * torch.randn(len(labels), classes + 1, generator=torch.Generator().manual_seed(0))
    deltas = torch.full((len(labels), predictor.bbox_pred.out_features), 1e4) if predictor.regresses else None
    with EventStorage():
        losses = predictor.losses((scores if predictor.classifies else None, deltas), parts)
    unweighted = {term: float(loss) / (predictor.loss_weight[term] or 1.0) for term, loss in losses.items()}
    return unweighted | {"entropy": float(F.cross_entropy(scores, labels, reduction="sum")), "distance": 3 * 4 * 1e4}
