"""The stages of the cascade: what each is, and how it trains."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from mmdet.models.losses import CrossEntropyLoss
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from torch import nn

from adapters.inspection.box_probes import delta_clamp
from adapters.inspection.control_rows import Row, divisor_name, joined_digest, one_or_all
from adapters.inspection.head_probes import ProbedHeads
from adapters.inspection.probe_inputs import probe_boxes
from adapters.inspection.stage_passing import borrowed_gradient, passing_rows
from adapters.mmdet.controls.head_probes import probed_heads, stage_of
from adapters.mmdet.controls.proposals import regression_loss
from adapters.mmdet.stages import ControlledRoIHeads
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``heads.*``."""
    heads, probes = built.model.roi_head, probed_heads(built)
    stages, classifiers = probes.counts_at_test()
    yield "heads.stages", stages, "probe: boxes of roi_head.run_stages()"
    yield "heads.classifiers", classifiers, "probe: logits of roi_head.run_stages()"
    yield from _targets(heads)
    yield from _losses(heads, probes)
    yield from _layers(heads, probes)
    yield from _sampling(heads)
    yield from _training(probes)
    yield from _pooling(heads)


def _targets(heads: ControlledRoIHeads) -> Iterator[Row]:
    """What a RoI learns."""
    thresholds = [one.pos_iou_thr for one in heads.bbox_assigner]
    yield "heads.iou_threshold", thresholds, "roi_head.bbox_assigner[t].pos_iou_thr"
    regressing = [head for head in heads.bbox_head if head.with_reg]
    for kind in ("means", "stds"):
        values = [[round(float(one), 10) for one in getattr(head.bbox_coder, kind)] for head in regressing]
        yield f"heads.target_{kind}", values, f"roi_head.bbox_head[t].bbox_coder.{kind}"
    clamps = [delta_clamp(head.bbox_coder.decode) for head in regressing]
    yield "heads.delta_clamp", clamps, "probe: roi_head.bbox_head[t].bbox_coder.decode()"
    kinds = ["class_agnostic" if head.reg_class_agnostic else "class_specific" for head in regressing]
    yield "heads.regression", kinds, "roi_head.bbox_head[t].reg_class_agnostic"


def _losses(heads: ControlledRoIHeads, probes: ProbedHeads) -> Iterator[Row]:
    names = one_or_all(classification_loss(head.loss_cls) for head in heads.bbox_head if head.with_cls)
    yield "heads.classification_loss", names, "type(roi_head.bbox_head[t].loss_cls)"
    losses = one_or_all(regression_loss(head.loss_bbox) for head in heads.bbox_head if head.with_reg)
    yield "heads.regression_loss", losses, "type(roi_head.bbox_head[t].loss_bbox)"
    for task, part, loss in (("classification", "with_cls", "loss_cls"), ("regression", "with_reg", "loss_bbox")):
        weights = [
            float(heads.stage_loss_weights[stage_of(heads, number)] * getattr(head, loss).loss_weight)
            if getattr(head, part)
            else None
            for number, head in enumerate(heads.bbox_head)
        ]
        where = f"roi_head.stage_loss_weights[t] * bbox_head[t].{loss}.loss_weight"
        yield f"heads.{task}_loss_weight", weights, where
    divisors = one_or_all(loss_normalizer(head) for head in heads.bbox_head)
    yield "heads.loss_normalizer", divisors, "probe: roi_head.bbox_head[t].loss() over the sums of its losses"
    where = "probe: gradient at the pyramid over that without scaling"
    yield "heads.trunk_gradient", probes.trunk_gradients(digits=6), where


def _layers(heads: ControlledRoIHeads, probes: ProbedHeads) -> Iterator[Row]:
    """Layers before the outputs, and what each stage does with them."""
    branches = [branch for head in heads.bbox_head for branch in connected_layers(head)]
    widths = one_or_all(layer.out_features for branch in branches for layer in branch)
    yield "heads.width", widths, "out_features of the linear layers of roi_head.bbox_head[t]"
    numbers = one_or_all(len(branch) for branch in branches)
    yield "heads.fully_connected_layers", numbers, "len(roi_head.bbox_head[t].shared_fcs) + len(.cls_fcs), .reg_fcs"
    where = "roi_head.bbox_head[0].shared_fcs, .cls_fcs, .reg_fcs"
    yield "heads.task_branches", task_branches(heads.bbox_head[0]), where
    kinds = one_or_all(regression_branch(head) for head in heads.bbox_head if head.with_reg)
    yield "heads.regression_branch", kinds, "roi_head.bbox_head[t].regression_convolutions"
    yield "heads.trunks_run", probes.heads_run(), "probe: hooks on layers, roi_head.stage_forward()"
    where = "probe: roi_head.loss(), gradients of the heads' layers"
    yield "heads.classifier_trains", probes.heads_trained("classification"), where
    yield "heads.regressor_trains", probes.heads_trained("regression"), where


def task_branches(head: nn.Module) -> str:
    """Say whether classifier and regressor of a head read the same layers."""
    own = len(head.cls_fcs), len(head.reg_fcs), head.regression_convolutions is not None
    if not len(head.shared_fcs):
        return "unshared"
    return "mixed" if any(own) else "shared"


def regression_branch(head: nn.Module) -> str:
    """Name what comes before a regressor."""
    return "fully_connected" if head.regression_convolutions is None else "residual_convolutions"


def _sampling(heads: ControlledRoIHeads) -> Iterator[Row]:
    """Of the first stage's RoIs."""
    first = heads.bbox_sampler[0]
    samplers = [first, getattr(heads, "regression_sampler", first)]
    where = "roi_head.bbox_sampler[0].num, roi_head.regression_sampler.num"
    yield "heads.rois_per_image", one_or_all(sampler.num for sampler in samplers), where
    yield "heads.positive_fraction", first.pos_fraction, "roi_head.bbox_sampler[0].pos_fraction"
    yield "heads.add_ground_truth", first.add_gt_as_proposals, "roi_head.bbox_sampler[0].add_gt_as_proposals"


def _training(probes: ProbedHeads) -> Iterator[Row]:
    """What a training on a fixed batch shows."""
    where = "probe: roi_head.loss(), what roi_head.bbox_head[t].loss() gets"
    for prefix, task in (("", "classification"), ("regression_", "regression")):
        entering, positives = probes.entering(task)
        yield f"heads.{prefix}rois_entering", entering, where
        yield f"heads.{prefix}positives_entering", positives, where
    yield "heads.borrowed_gradient", borrowed_gradient(probes.module), "roi_head.sharing.borrowed_gradient"
    yield from passing_rows(probes, where)


def _pooling(heads: ControlledRoIHeads) -> Iterator[Row]:
    """RoIAlign of every stage and level, and the levels that boxes are pooled from."""
    layers = [layer for extractor in heads.bbox_roi_extractor for layer in extractor.roi_layers]
    where = "roi_head.bbox_roi_extractor[t].roi_layers[level]"
    sizes = one_or_all(one_or_all(layer.output_size) for layer in layers)
    yield "heads.pool_size", sizes, f"{where}.output_size"
    yield "heads.sampling_ratio", one_or_all(layer.sampling_ratio for layer in layers), f"{where}.sampling_ratio"
    yield "heads.pooling_aligned", one_or_all(bool(layer.aligned) for layer in layers), f"{where}.aligned"
    digests = one_or_all(joined_digest(level_map(extractor)) for extractor in heads.bbox_roi_extractor)
    yield "heads.level_map_sha256", digests, "probe: roi_head.bbox_roi_extractor[t].map_roi_levels()"


def level_map(extractor: nn.Module) -> list[int]:
    """Return the pyramid level, 0 for the finest, from which each of the fixed boxes is pooled."""
    boxes = 8 * probe_boxes()  # large enough for all levels
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)
    return extractor.map_roi_levels(rois, extractor.num_inputs).tolist()


def connected_layers(head: nn.Module) -> list[list[Any]]:
    """Fully connected layers before the classifier and before the regressor, where a head has such layers."""
    if not isinstance(head, ConvFCBBoxHead):
        return []  # nothing but a classifier of another head's feature
    shared = list(head.shared_fcs)
    found = [shared + list(head.cls_fcs)] if head.with_cls else []
    if head.with_reg and head.regression_convolutions is None:
        found.append(shared + list(head.reg_fcs))
    return found


def classification_loss(module: nn.Module) -> str:
    """Name of a classification loss over all classes and background."""
    is_plain = not (module.use_sigmoid or module.class_weight)
    return "cross_entropy" if type(module) is CrossEntropyLoss and is_plain else type(module).__name__


def loss_normalizer(head: nn.Module) -> str:
    """Probe what divides the losses of a head, with two positives among eight RoIs."""
    rois, positives = 8, 2
    labels = torch.full((rois,), head.num_classes)
    labels[:positives] = 0
    targets, target_weights = torch.zeros(rois, 4), torch.zeros(rois, 4)
    targets[:positives], target_weights[:positives] = 1.0, 1.0
    weights = torch.ones(rois)
    scores = torch.zeros(rois, head.num_classes + 1) if head.with_cls else None
    deltas = torch.zeros(rois, head.fc_reg.out_features) if head.with_reg else None
    divisors = []
    # A weight of zero would hide the divisor.
    with patch.object(head.loss_cls, "loss_weight", 1.0), patch.object(head.loss_bbox, "loss_weight", 1.0):
        losses = head.loss(scores, deltas, torch.zeros(rois, 5), labels, weights, targets, target_weights)
        if head.with_cls:
            total = head.loss_cls(scores, labels, weights, reduction_override="sum")
            divisors.append(total / losses["loss_cls"])
        if head.with_reg:
            total = head.loss_bbox(torch.zeros(rois, 4), targets, target_weights, reduction_override="sum")
            divisors.append(total / losses["loss_bbox"])
    return divisor_name(divisors, {"RoIs": rois, "positives": positives})
