"""The stages of the cascade and their mask branches: what each is, and how it trains."""

import math
from collections.abc import Iterator
from functools import partial
from unittest.mock import patch

import torch
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, ROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn import functional

from adapters.detectron2.box_heads import StageOutputLayers, layers_of
from adapters.detectron2.controls.proposals import decoded, regression_loss
from adapters.detectron2.mask_heads import MaskRoIHeads
from adapters.detectron2.sampling import DecoupledRoIHeads
from adapters.detectron2.stages import ControlledRoIHeads
from adapters.inspection.box_probes import delta_clamp
from adapters.inspection.control_rows import Row, divisor_name, joined_digest, one_or_all, rounded
from adapters.inspection.head_probes import IMAGE, HeadStep, ProbedHeads, gradient_share, recorded
from adapters.inspection.probe_inputs import probe_bitmaps, probe_boxes, probe_features
from adapters.inspection.stage_passing import passing_rows
from adapters.layers.convolution_branch import ConvolutionBranch
from adapters.training.assembly import Built

GREAT = 1e6
"""A regression error beside which the part that a loss smooths is nothing."""


def rows(built: Built) -> Iterator[Row]:
    """Yield ``heads.*`` and ``masks.*``."""
    heads, probes = built.model.roi_heads, probed_heads(built)
    yield from probes.rows(digits=7)
    yield from passing_rows(probes)
    yield from _targets(heads)
    yield from _losses(heads)
    yield from _layers(heads)
    yield from _pooling(heads)
    yield from _sampling(heads)
    yield from mask_rows(heads, probes)


def _targets(heads: ControlledRoIHeads) -> Iterator[Row]:
    """What a RoI learns."""
    # Detectron2 matches for the first stage by a matcher of its own name.
    first = one_or_all(sampler.proposal_matcher.thresholds[1] for sampler in samplers(heads))
    thresholds = [first, *(matcher.thresholds[1] for matcher in heads.proposal_matchers[1:])]
    yield "heads.iou_threshold", thresholds, "roi_heads.proposal_matchers[t].thresholds[1]"
    transforms = [one.box2box_transform for one in heads.box_predictor if one.regresses]
    box = torch.tensor([[10.0, 20.0, 50.0, 40.0]])
    means = [rounded(-transform.get_deltas(box, box)) for transform in transforms]
    yield "heads.target_means", means, "probe: target of a box that is its ground truth"
    stds = [[round(1 / weight, 10) for weight in transform.weights] for transform in transforms]
    yield "heads.target_stds", stds, "1 / roi_heads.box_predictor[t].box2box_transform.weights"
    factors = [delta_clamp(partial(decoded, transform)) for transform in transforms]
    yield "heads.delta_clamp", factors, "probe: extreme deltas through roi_heads.box_predictor[t].box2box_transform"


def _losses(heads: ControlledRoIHeads) -> Iterator[Row]:
    predictors = list(heads.box_predictor)
    kinds = one_or_all(classification_loss(one) for one in predictors if one.classifies)
    yield "heads.classification_loss", kinds, "probe: losses of fixed scores against cross-entropy"
    losses = one_or_all(regression_loss(one) for one in predictors if one.regresses)
    yield "heads.regression_loss", losses, "roi_heads.box_predictor[t].box_reg_loss_type, .smooth_l1_beta"
    for task, term, has in (
        ("classification", "loss_cls", "classifies"), ("regression", "loss_box_reg", "regresses"),
    ):  # fmt: skip
        weights = [float(one.loss_weight[term]) if getattr(one, has) else None for one in predictors]
        yield f"heads.{task}_loss_weight", weights, f"roi_heads.box_predictor[t].loss_weight['{term}']"
    normalizers = one_or_all(loss_normalizer(one) for one in predictors)
    yield "heads.loss_normalizer", normalizers, "probe: losses of fixed scores and deltas"


def _layers(heads: ControlledRoIHeads) -> Iterator[Row]:
    outputs = [one.bbox_pred.out_features for one in heads.box_predictor if one.regresses]
    known = {4 * heads.num_classes: "class_specific", 4: "class_agnostic"}
    kinds = [known.get(number, f"{number} outputs") for number in outputs]
    yield "heads.regression", kinds, "roi_heads.box_predictor[t].bbox_pred.out_features"
    branches = [one for one in heads.box_head.modules() if isinstance(one, FastRCNNConvFCHead)]
    layers = [[layer for layer in branch.children() if isinstance(layer, nn.Linear)] for branch in branches]
    widths = one_or_all(layer.out_features for branch in layers for layer in branch)
    yield "heads.width", widths, "out_features of the linear layers of roi_heads.box_head[t]"
    numbers = one_or_all(len(branch) for branch in layers)
    yield "heads.fully_connected_layers", numbers, "linear layers of each branch of roi_heads.box_head[t]"
    pairs = zip(heads.box_head, heads.box_predictor, strict=False)
    before = one_or_all(regression_branch(layers_of(head, "regression")) for head, one in pairs if one.regresses)
    yield "heads.regression_branch", before, "types of the layers of roi_heads.box_head[t]"


def regression_branch(branch: nn.Module) -> str:
    """Name what comes before a regressor."""
    kinds = {ConvolutionBranch: "residual_convolutions", FastRCNNConvFCHead: "fully_connected"}
    return kinds.get(type(branch), type(branch).__name__)


def samplers(heads: ControlledRoIHeads) -> list[ROIHeads]:
    """What matches and samples the first stage's RoIs: one for both tasks, or one for each."""
    return [heads, heads.regression_sampler] if isinstance(heads, DecoupledRoIHeads) else [heads]


def _sampling(heads: ControlledRoIHeads) -> Iterator[Row]:
    """Of the first stage's RoIs. What Decoupled R-CNN samples for regression shows in what enters the losses."""
    numbers = one_or_all(sampler.batch_size_per_image for sampler in samplers(heads))
    yield "heads.rois_per_image", numbers, "roi_heads.batch_size_per_image"
    yield "heads.positive_fraction", heads.positive_fraction, "roi_heads.positive_fraction"
    yield "heads.add_ground_truth", heads.proposal_append_gt, "roi_heads.proposal_append_gt"


def _pooling(heads: ControlledRoIHeads) -> Iterator[Row]:
    poolers = list(heads.box_pooler.level_poolers)
    sizes = one_or_all(side for one in (heads.box_pooler, *poolers) for side in one.output_size)
    yield "heads.pool_size", sizes, "roi_heads.box_pooler.output_size, .level_poolers[...].output_size"
    for name, attribute in (("sampling_ratio", "sampling_ratio"), ("pooling_aligned", "aligned")):
        value = one_or_all(getattr(one, attribute, None) for one in poolers)
        yield f"heads.{name}", value, f"roi_heads.box_pooler.level_poolers[...].{attribute}"
    where = "probe: roi_heads.box_pooler on maps that hold their level"
    yield "heads.level_map_sha256", joined_digest(level_map(heads)), where


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


def classification_loss(predictor: StageOutputLayers) -> str:
    """Say whether losses of two sets of scores relate to each other as their cross-entropies do."""
    first, second = (_losses_of(predictor, scale) for scale in (1.0, 3.0))
    ratio = first["loss_cls"] / second["loss_cls"]
    return "cross_entropy" if math.isclose(ratio, first["entropy"] / second["entropy"], rel_tol=1e-4) else "other"


def loss_normalizer(predictor: StageOutputLayers) -> str:
    """Say what divides the losses: all RoIs, the positive ones, or something else."""
    losses = _losses_of(predictor, 1.0)
    divisors = [
        losses[whole] / max(losses[term], 1e-12)
        for term, whole in (("loss_cls", "entropy"), ("loss_box_reg", "distance"))
        if term in losses
    ]
    return divisor_name(divisors, {"RoIs": 7, "positives": 3})


@torch.no_grad()
def _losses_of(predictor: StageOutputLayers, scale: float) -> dict[str, float]:
    """Losses of seven RoIs in two images, three of them positive, without their weights, and what they are sums of.

    Every RoI is its own ground truth, and the deltas so great that how small errors are smoothed has no part.
    """
    classes = predictor.num_classes
    labels = torch.tensor([0, classes, 0, classes, classes, 0, classes])
    boxes = probe_boxes(len(labels))
    parts = [
        Instances(IMAGE, proposal_boxes=Boxes(boxes[part]), gt_boxes=Boxes(boxes[part]), gt_classes=labels[part])
        for part in (slice(0, 5), slice(5, 7))
    ]
    scores = scale * torch.randn(len(labels), classes + 1, generator=torch.Generator().manual_seed(0))
    deltas = torch.full((len(labels), predictor.bbox_pred.out_features), GREAT) if predictor.regresses else None
    # A weight of zero would hide the divisor.
    with EventStorage(), patch.dict(predictor.loss_weight, loss_cls=1.0, loss_box_reg=1.0):
        losses = predictor.losses((scores if predictor.classifies else None, deltas), parts)
    sums = {"entropy": functional.cross_entropy(scores, labels, reduction="sum"), "distance": 3 * 4 * GREAT}
    return {name: float(value) for name, value in (losses | sums).items()}


def mask_rows(heads: ControlledRoIHeads, probes: ProbedHeads) -> Iterator[Row]:
    """Yield ``masks.*``."""
    stages = [int(stage) for stage in heads.mask_heads] if isinstance(heads, MaskRoIHeads) else []
    yield "masks.stages", stages, "roi_heads.mask_heads"
    yield "masks.pool_size", heads.mask_pooler.output_size[0] if stages else None, "roi_heads.mask_pooler.output_size"
    weights = [float(heads.mask_loss_weight) for _ in stages]
    yield "masks.loss_weight", weights, "roi_heads.mask_loss_weight"
    shares = [mask_trunk_gradient(probes, stage) for stage in stages]
    yield "masks.trunk_gradient", shares, "probe: gradient at the feature map over that without scaling"
    entering = probes.trained_on([heads.mask_heads[str(stage)].predictor for stage in stages])
    yield "masks.rois_entering", entering, "probe: hooks on roi_heads.mask_heads[t].predictor in training"


def mask_trunk_gradient(probes: ProbedHeads, stage: int) -> float | None:
    """Probe the share of a branch's gradient that reaches the trunk."""
    heads = probes.module
    maps = [level.requires_grad_() for level in probe_features(probes.channels, 1)[: len(heads.box_in_features)]]
    boxes = [Boxes(probe_boxes(8))]
    return gradient_share(heads.mask_features(stage, maps, boxes), heads.mask_pooler(maps, boxes), maps[0])


def probed_heads(built: Built) -> ProbedHeads:
    """Let the probes ask the heads of what was built."""
    heads = built.model.roi_heads
    first = heads.box_predictor[0]
    layers = [_before_outputs(head) for head in heads.box_head]
    return ProbedHeads(
        heads,
        built.model.backbone.output_shape()["p2"].channels,
        layers + [[]] * (len(heads.box_predictor) - len(layers)),  # further classifiers of a stage have none
        heads.batch_size_per_image,
        (first.bbox_pred.bias, 1 / first.box2box_transform.weights[0]),
        partial(_alone, heads),
        partial(_train, heads),
    )


def _before_outputs(head: nn.Module) -> list[nn.Module]:
    """Everything of a head before its outputs."""
    return [layer for layer in head.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def _alone(heads: ControlledRoIHeads, head: int, features: list[Tensor], rois: Tensor) -> Tensor:
    """What a head's layers give of RoIs."""
    boxes = [Boxes(rois[rois[:, 0] == image, 1:]) for image in range(len(features[0]))]
    logits, deltas = heads.stage_forward(head, heads.box_pooler(list(heads.held(features).values()), boxes))
    return deltas if logits is None else logits


def _train(
    heads: ControlledRoIHeads, features: list[Tensor], proposals: Tensor, truth: Tensor, labels: Tensor
) -> HeadStep:
    """Train for one step."""
    step, images, classes = HeadStep(features), len(features[0]), heads.num_classes

    def note(head: int, losses: dict, predictions: tuple[Tensor | None, Tensor | None], rois: list[Instances]) -> None:
        both = losses.get("loss_cls"), losses.get("loss_box_reg")
        positive = torch.cat([image.gt_classes for image in rois]) < classes
        step.note(head, *predictions, both, _with_images(rois), positive)

    target = Instances(IMAGE, gt_boxes=Boxes(truth), gt_classes=labels % classes, bitmaps=probe_bitmaps(truth))
    given = Instances(IMAGE, proposal_boxes=Boxes(proposals), objectness_logits=torch.zeros(len(proposals)))
    given = (given, given) if isinstance(heads, DecoupledRoIHeads) else given
    with EventStorage(), recorded(heads.box_predictor, "losses", note):
        heads(None, heads.held(features), [given] * images, [target] * images)
    return step


def _with_images(rois: list[Instances]) -> Tensor:
    """RoIs of a batch as image, x1, y1, x2, y2."""
    boxes = [image.proposal_boxes.tensor for image in rois]
    return torch.cat([torch.cat([one.new_full((len(one), 1), number), one], 1) for number, one in enumerate(boxes)])
