"""The stages of the cascade: what each is, and how it trains."""

import hashlib
from collections.abc import Iterator

import torch
from torch import nn

from adapters.detectron2.built import Built
from adapters.detectron2.controls.head_probes import (
    classification_loss,
    level_map,
    loss_normalizer,
    loss_weight,
    trained_rois,
    trunk_gradients,
)
from adapters.detectron2.controls.proposals import regression_loss, side_factors
from adapters.detectron2.controls.rows import Row, one_or_all, rounded
from adapters.detectron2.stages import ControlledROIHeads


def rows(built: Built) -> Iterator[Row]:
    """Yield ``heads.*``."""
    heads = built.model.roi_heads
    yield "heads.stages", len(heads.box_head), "len(roi_heads.box_head)"
    yield from _targets(heads)
    yield from _losses(heads)
    yield from _layers(heads)
    yield from _pooling(heads)
    yield "heads.rois_per_image", heads.batch_size_per_image, "roi_heads.batch_size_per_image"
    yield "heads.positive_fraction", heads.positive_fraction, "roi_heads.positive_fraction"
    yield "heads.add_ground_truth", heads.proposal_append_gt, "roi_heads.proposal_append_gt"
    entering, positives = trained_rois(heads, built.model.backbone.output_shape()["p2"].channels)
    yield "heads.rois_entering", entering, "probe: what roi_heads.box_predictor[t].losses gets"
    yield "heads.positives_entering", positives, "probe: what roi_heads.box_predictor[t].losses gets"


def _targets(heads: ControlledROIHeads) -> Iterator[Row]:
    """What a RoI learns."""
    # Detectron2 matches for the first stage by a matcher of its own name.
    matchers = [heads.proposal_matcher, *heads.proposal_matchers[1:]]
    thresholds = [matcher.thresholds[1] for matcher in matchers]
    yield "heads.iou_threshold", thresholds, "roi_heads.proposal_matchers[t].thresholds[1]"
    transforms = [one.box2box_transform for one in heads.box_predictor]
    box = torch.tensor([[10.0, 20.0, 50.0, 40.0]])
    means = [rounded(-transform.get_deltas(box, box)) for transform in transforms]
    yield "heads.target_means", means, "probe: target of a box that is its ground truth"
    stds = [[round(1 / weight, 10) for weight in transform.weights] for transform in transforms]
    yield "heads.target_stds", stds, "1 / roi_heads.box_predictor[t].box2box_transform.weights"
    factors = [side_factors(transform) for transform in transforms]
    yield "heads.delta_clamp", factors, "probe: extreme deltas through roi_heads.box_predictor[t].box2box_transform"


def _losses(heads: ControlledROIHeads) -> Iterator[Row]:
    predictors = list(heads.box_predictor)
    kinds = one_or_all(classification_loss(one) for one in predictors)
    yield "heads.classification_loss", kinds, "probe: losses of fixed scores against cross-entropy"
    losses = one_or_all(regression_loss(one) for one in predictors)
    yield "heads.regression_loss", losses, "roi_heads.box_predictor[t].box_reg_loss_type, .smooth_l1_beta"
    yield "heads.loss_weight", [loss_weight(one) for one in predictors], "roi_heads.box_predictor[t].loss_weight"
    normalizers = one_or_all(loss_normalizer(one) for one in predictors)
    yield "heads.loss_normalizer", normalizers, "probe: losses of fixed scores and deltas"
    yield "heads.trunk_gradient", trunk_gradients(heads), "probe: gradient at the feature map over that without scaling"


def _layers(heads: ControlledROIHeads) -> Iterator[Row]:
    outputs = {one.bbox_pred.out_features for one in heads.box_predictor}
    kind = {(4,): "class_agnostic", (4 * heads.num_classes,): "class_specific"}.get(tuple(outputs), "mixed")
    yield "heads.regression", kind, "roi_heads.box_predictor[t].bbox_pred.out_features"
    layers = [[layer for layer in head.children() if isinstance(layer, nn.Linear)] for head in heads.box_head]
    widths = one_or_all(layer.out_features for head in layers for layer in head)
    yield "heads.width", widths, "out_features of the linear layers of roi_heads.box_head[t]"
    numbers = one_or_all(len(head) for head in layers)
    yield "heads.fully_connected_layers", numbers, "linear layers of roi_heads.box_head[t]"


def _pooling(heads: ControlledROIHeads) -> Iterator[Row]:
    poolers = list(heads.box_pooler.level_poolers)
    sizes = one_or_all(side for one in (heads.box_pooler, *poolers) for side in one.output_size)
    yield "heads.pool_size", sizes, "roi_heads.box_pooler.output_size, .level_poolers[...].output_size"
    for name, attribute in (("sampling_ratio", "sampling_ratio"), ("pooling_aligned", "aligned")):
        value = one_or_all(getattr(one, attribute, None) for one in poolers)
        yield f"heads.{name}", value, f"roi_heads.box_pooler.level_poolers[...].{attribute}"
    levels = ",".join(str(level) for level in level_map(heads))
    hashed = hashlib.sha256(levels.encode()).hexdigest()
    yield "heads.level_map_sha256", hashed, "probe: roi_heads.box_pooler on maps that hold their level"
