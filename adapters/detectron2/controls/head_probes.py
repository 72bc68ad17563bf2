"""Probes of the stages' behaviour, on fixed inputs."""

import math
from contextlib import ExitStack
from unittest.mock import patch

import torch
import torch.nn.functional as F
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor

from adapters.detectron2.stages import ControlledROIHeads
from adapters.probe_inputs import probe_boxes, probe_features, probe_ground_truth

SIZE = (128, 128)
IMAGES = 2


def trunk_gradients(heads: ControlledROIHeads) -> list[float]:
    """Probe the share of each stage's gradient that reaches the trunk.

    Takes the gradient through a stage as it trains, and through pooler and head alone; the ratio at the feature map is
    the share.
    """
    heads.train()
    channels = heads.box_head[0].fcs[0].in_features // heads.box_pooler.output_size[0] ** 2
    boxes = Boxes(torch.tensor([[8.0, 8.0, 100.0, 90.0], [20.0, 30.0, 60.0, 50.0]]))
    proposals = [Instances(SIZE, proposal_boxes=boxes)]
    maps = [one.requires_grad_() for one in probe_features(channels, 1)[: len(heads.box_in_features)]]
    shares = []
    for stage, (head, predictor) in enumerate(zip(heads.box_head, heads.box_predictor, strict=True)):
        plain = predictor(head(heads.box_pooler(maps, [boxes])))[0].square().sum()
        trained = heads._run_stage(maps, proposals, stage)[0].square().sum()
        norms = [float(torch.autograd.grad(output, maps[0])[0].double().norm()) for output in (trained, plain)]
        shares.append(round(norms[0] / norms[1], 7))
    return shares


@torch.no_grad()
def level_map(heads: ControlledROIHeads) -> list[int]:
    """Return the pyramid level, 0 for the finest, from which each of the fixed boxes is pooled."""
    # Maps of a 1024 x 1024 image that hold their own level, and boxes large enough for all levels.
    maps = [
        torch.full((1, 1, 256 // 2**level, 256 // 2**level), float(level))
        for level in range(len(heads.box_in_features))
    ]
    pooled = heads.box_pooler(maps, [Boxes(8 * probe_boxes())])
    return pooled.flatten(1).amax(1).round().int().tolist()


@torch.no_grad()
def trained_rois(heads: ControlledROIHeads, channels: int) -> tuple[list[int], list[int]]:
    """Train on a fixed batch and count, for every stage, the RoIs that enter its losses and the positives among them.

    There are so few proposals that sampling takes them all, unless the positives exceed their share.
    """
    heads.train()
    boxes, labels = probe_ground_truth()
    target = Instances(SIZE, gt_boxes=Boxes(boxes), gt_classes=labels % heads.num_classes)
    chosen = probe_boxes()[: min(heads.batch_size_per_image // 2, 60)]
    proposals = [
        Instances(SIZE, proposal_boxes=Boxes(chosen.clone()), objectness_logits=torch.zeros(len(chosen)))
        for _ in range(IMAGES)
    ]
    features = dict(zip(heads.box_in_features, probe_features(channels, IMAGES), strict=False))
    torch.manual_seed(0)
    with EventStorage(), ExitStack() as spies:
        losses = [spies.enter_context(patch.object(one, "losses", wraps=one.losses)) for one in heads.box_predictor]
        heads(None, features, proposals, [target] * IMAGES)
    classes = [torch.cat([image.gt_classes for image in spy.call_args.args[1]]) for spy in losses]
    positives = [int(((one >= 0) & (one < heads.num_classes)).sum()) for one in classes]
    return [len(one) for one in classes], positives


def loss_weight(predictor: FastRCNNOutputLayers) -> float | list[float]:
    """Weight of a stage's losses; a list if classification and regression have different ones."""
    terms = [float(predictor.loss_weight.get(term, 1.0)) for term in ("loss_cls", "loss_box_reg")]
    return terms[0] if terms[0] == terms[1] else terms


def classification_loss(predictor: FastRCNNOutputLayers) -> str:
    """Say whether losses of two sets of scores relate to each other as their cross-entropies do."""
    first, second = (_losses(predictor, scale) for scale in (1.0, 3.0))
    ratio = first["classification"] / second["classification"]
    return "cross_entropy" if math.isclose(ratio, first["entropy"] / second["entropy"], rel_tol=1e-4) else "other"


def loss_normalizer(predictor: FastRCNNOutputLayers) -> str:
    """Say what divides both losses: all RoIs, the positive ones, or something else."""
    losses = _losses(predictor, 1.0)
    divisors = [
        losses["entropy"] / max(losses["classification"], 1e-12),
        losses["distance"] / max(losses["regression"], 1e-12),
    ]
    for name, value in (("RoIs", 7), ("positives", 3)):
        if all(math.isclose(divisor, value, rel_tol=1e-3) for divisor in divisors):
            return name
    return "other"


@torch.no_grad()
def _losses(predictor: FastRCNNOutputLayers, scale: float) -> dict[str, float]:
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
    deltas = torch.full((len(labels), predictor.bbox_pred.out_features), 1e4)
    with EventStorage():
        losses = predictor.losses((scores, deltas), parts)
    return {
        "classification": _unweighted(predictor, losses, "loss_cls"),
        "regression": _unweighted(predictor, losses, "loss_box_reg"),
        "entropy": float(F.cross_entropy(scores, labels, reduction="sum")),
        "distance": 3 * 4 * 1e4,
    }


def _unweighted(predictor: FastRCNNOutputLayers, losses: dict[str, Tensor], term: str) -> float:
    return float(losses[term]) / (predictor.loss_weight.get(term, 1.0) or 1.0)
