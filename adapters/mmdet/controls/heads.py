"""Controls of the heads: their stages, losses, layers and samples."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from mmdet.models.losses import CrossEntropyLoss
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from torch import nn

from adapters.inspection.probe_inputs import probe_boxes, probe_features
from adapters.mmdet.controls.control_rows import Row, delta_clamp, one_value, regression_loss
from adapters.mmdet.controls.head_probes import fixed_step, heads_trained, layers_run, stage_of, trunk_gradients
from adapters.training.assembly import Built


def head_rows(built: Built) -> Iterator[Row]:
    """Thresholds, targets, losses, layers and samples of every head."""
    roi_head = built.model.roi_head
    stages, classifiers = at_test(built)
    yield "heads.stages", stages, "probe: boxes of roi_head.run_stages()"
    yield "heads.classifiers", classifiers, "probe: logits of roi_head.run_stages()"
    thresholds = [one.pos_iou_thr for one in roi_head.bbox_assigner]
    yield "heads.iou_threshold", thresholds, "roi_head.bbox_assigner[t].pos_iou_thr"
    regressing = [head for head in roi_head.bbox_head if head.with_reg]
    for kind in ("means", "stds"):
        values = [[round(float(one), 10) for one in getattr(head.bbox_coder, kind)] for head in regressing]
        yield f"heads.target_{kind}", values, f"roi_head.bbox_head[t].bbox_coder.{kind}"
    clamps = [delta_clamp(head.bbox_coder) for head in regressing]
    yield "heads.delta_clamp", clamps, "probe: roi_head.bbox_head[t].bbox_coder.decode()"
    kinds = ["class_agnostic" if head.reg_class_agnostic else "class_specific" for head in regressing]
    yield "heads.regression", kinds, "roi_head.bbox_head[t].reg_class_agnostic"
    yield from _loss_rows(built, regressing)
    yield from _layer_rows(built, regressing)
    first = roi_head.bbox_sampler[0]
    samplers = [first, getattr(roi_head, "regression_sampler", first)]
    where = "roi_head.bbox_sampler[0].num, roi_head.regression_sampler.num"
    yield "heads.rois_per_image", one_value(sampler.num for sampler in samplers), where
    yield "heads.positive_fraction", first.pos_fraction, "roi_head.bbox_sampler[0].pos_fraction"
    yield "heads.add_ground_truth", first.add_gt_as_proposals, "roi_head.bbox_sampler[0].add_gt_as_proposals"


@torch.no_grad()
def at_test(built: Built) -> tuple[int, int]:
    """Count the regressors and the classifiers that a test runs."""
    built.model.roi_head.eval()
    features = tuple(probe_features(built.model.neck.out_channels, 1))
    outputs = built.model.roi_head.run_stages(features, probe_boxes()[:4], (128, 128), [])
    built.model.roi_head.train()
    return len(outputs.boxes), len(outputs.logits)


def _loss_rows(built: Built, regressing: list[nn.Module]) -> Iterator[Row]:
    roi_head = built.model.roi_head
    names = one_value(classification_loss(head.loss_cls) for head in roi_head.bbox_head if head.with_cls)
    yield "heads.classification_loss", names, "type(roi_head.bbox_head[t].loss_cls)"
    losses = one_value(regression_loss(head.loss_bbox) for head in regressing)
    yield "heads.regression_loss", losses, "type(roi_head.bbox_head[t].loss_bbox)"
    for task, part, loss in (("classification", "with_cls", "loss_cls"), ("regression", "with_reg", "loss_bbox")):
        weights = [
            float(roi_head.stage_loss_weights[stage_of(roi_head, number)] * getattr(head, loss).loss_weight)
            if getattr(head, part)
            else None
            for number, head in enumerate(roi_head.bbox_head)
        ]
        where = f"roi_head.stage_loss_weights[t] * bbox_head[t].{loss}.loss_weight"
        yield f"heads.{task}_loss_weight", weights, where
    divisors = one_value(loss_normalizer(head) for head in roi_head.bbox_head)
    yield "heads.loss_normalizer", divisors, "probe: roi_head.bbox_head[t].loss() over the sums of its losses"
    where = "probe: gradient at the pyramid over that without scaling"
    yield "heads.trunk_gradient", trunk_gradients(roi_head, built.model.neck.out_channels), where


def _layer_rows(built: Built, regressing: list[nn.Module]) -> Iterator[Row]:
    """Layers before the outputs, and what each stage does with them."""
    roi_head, channels = built.model.roi_head, built.model.neck.out_channels
    branches = [branch for head in roi_head.bbox_head for branch in connected_layers(head)]
    widths = one_value(layer.out_features for branch in branches for layer in branch)
    yield "heads.width", widths, "out_features of the linear layers of roi_head.bbox_head[t]"
    numbers = one_value(len(branch) for branch in branches)
    yield "heads.fully_connected_layers", numbers, "len(roi_head.bbox_head[t].shared_fcs) + len(.cls_fcs), .reg_fcs"
    first = roi_head.bbox_head[0]
    own = len(first.cls_fcs), len(first.reg_fcs), first.regression_convolutions is not None
    sharing = ("shared" if not any(own) else "mixed") if len(first.shared_fcs) else "unshared"
    yield "heads.task_branches", sharing, "roi_head.bbox_head[0].shared_fcs, .cls_fcs, .reg_fcs"
    plain = [head.regression_convolutions is None for head in regressing]
    kinds = one_value("fully_connected" if one else "residual_convolutions" for one in plain)
    yield "heads.regression_branch", kinds, "roi_head.bbox_head[t].regression_convolutions"
    yield "heads.trunks_run", layers_run(roi_head, channels), "probe: hooks on layers, roi_head.stage_forward()"
    _, step = fixed_step(roi_head, channels)
    for task, outputs in (("classifier", step.classification), ("regressor", step.regression)):
        trained = [heads_trained(roi_head, output) for output in outputs]
        yield f"heads.{task}_trains", trained, "probe: roi_head.loss(), gradients of the heads' layers"


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
    return "RoIs" if {round(float(one), 3) for one in divisors} == {float(rois)} else "other"
