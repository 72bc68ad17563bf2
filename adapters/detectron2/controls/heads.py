"""The stages of the cascade: what each is, and how it trains."""

import hashlib
from collections.abc import Iterator

import torch
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, ROIHeads
from torch import nn

from adapters.detectron2.box_heads import layers_of
from adapters.detectron2.controls.control_rows import Row, one_or_all, rounded
from adapters.detectron2.controls.head_probes import (
    classification_loss,
    heads_trained,
    layers_run,
    level_map,
    loss_normalizer,
    rois_entering,
    task_branches,
    test_counts,
    trained_batch,
    trunk_gradients,
)
from adapters.detectron2.controls.proposals import regression_loss, side_factors
from adapters.detectron2.sampling import DecoupledRoIHeads
from adapters.detectron2.stages import ControlledRoIHeads
from adapters.layers.convolution_branch import ConvolutionBranch
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``heads.*``."""
    heads, channels = built.model.roi_heads, built.model.backbone.output_shape()["p2"].channels
    stages, classifiers = test_counts(heads, channels)
    yield "heads.stages", stages, "probe: boxes that roi_heads.run_stages() gives"
    yield "heads.classifiers", classifiers, "probe: scores that roi_heads.run_stages() gives"
    yield from _targets(heads)
    yield from _losses(heads)
    gradients = trunk_gradients(heads, channels)
    yield "heads.trunk_gradient", gradients, "probe: gradient at the feature map over that without scaling"
    yield from _layers(heads)
    yield "heads.trunks_run", layers_run(heads, channels), "probe: hooks on the layers of roi_heads.box_head"
    yield from _pooling(heads)
    yield from _sampling(heads)
    yield from _training(heads, channels)


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
    factors = [side_factors(transform) for transform in transforms]
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


def _training(heads: ControlledRoIHeads, channels: int) -> Iterator[Row]:
    """What a training on a fixed batch shows."""
    batch = trained_batch(heads, channels)
    for prefix, term in (("", "loss_cls"), ("regression_", "loss_box_reg")):
        entering, positives = rois_entering(batch, term, heads.num_classes)
        yield f"heads.{prefix}rois_entering", entering, "probe: what roi_heads.box_predictor[t].losses gets"
        yield f"heads.{prefix}positives_entering", positives, "probe: what roi_heads.box_predictor[t].losses gets"
    source = "probe: gradients of the losses at roi_heads.box_head"
    yield "heads.task_branches", task_branches(heads, batch), source
    yield "heads.classifier_trains", heads_trained(heads, batch, "loss_cls"), source
    yield "heads.regressor_trains", heads_trained(heads, batch, "loss_box_reg"), source


def _pooling(heads: ControlledRoIHeads) -> Iterator[Row]:
    poolers = list(heads.box_pooler.level_poolers)
    sizes = one_or_all(side for one in (heads.box_pooler, *poolers) for side in one.output_size)
    yield "heads.pool_size", sizes, "roi_heads.box_pooler.output_size, .level_poolers[...].output_size"
    for name, attribute in (("sampling_ratio", "sampling_ratio"), ("pooling_aligned", "aligned")):
        value = one_or_all(getattr(one, attribute, None) for one in poolers)
        yield f"heads.{name}", value, f"roi_heads.box_pooler.level_poolers[...].{attribute}"
    levels = ",".join(str(level) for level in level_map(heads))
    hashed = hashlib.sha256(levels.encode()).hexdigest()
    yield "heads.level_map_sha256", hashed, "probe: roi_heads.box_pooler on maps that hold their level"
