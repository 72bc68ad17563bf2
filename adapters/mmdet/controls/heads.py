"""The stages of the cascade and their mask branches: what each is, and how it trains."""

from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from mmdet.models.losses import CrossEntropyLoss
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from adapters.inspection.box_probes import delta_clamp
from adapters.inspection.control_rows import Row, divisor_name, joined_digest, one_or_all
from adapters.inspection.head_probes import IMAGE, HeadStep, ProbedHeads, gradient_share, recorded
from adapters.inspection.probe_inputs import probe_bitmaps, probe_boxes, probe_features
from adapters.inspection.stage_passing import passing_rows
from adapters.mmdet.controls.proposals import regression_loss
from adapters.mmdet.mask_heads import MaskRoIHeads
from adapters.mmdet.sampling import DecoupledRoIHeads
from adapters.mmdet.stages import ControlledRoIHeads
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``heads.*`` and ``masks.*``."""
    heads, probes = built.model.roi_head, probed_heads(built)
    yield from probes.rows(digits=6)
    yield from passing_rows(probes)
    yield from _targets(heads)
    yield from _losses(heads)
    yield from _layers(heads)
    yield from _sampling(heads)
    yield from _pooling(heads)
    yield from mask_rows(heads, probes)


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


def _losses(heads: ControlledRoIHeads) -> Iterator[Row]:
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


def _layers(heads: ControlledRoIHeads) -> Iterator[Row]:
    """Layers before the outputs."""
    branches = [branch for head in heads.bbox_head for branch in connected_layers(head)]
    widths = one_or_all(layer.out_features for branch in branches for layer in branch)
    yield "heads.width", widths, "out_features of the linear layers of roi_head.bbox_head[t]"
    numbers = one_or_all(len(branch) for branch in branches)
    yield "heads.fully_connected_layers", numbers, "len(roi_head.bbox_head[t].shared_fcs) + len(.cls_fcs), .reg_fcs"
    kinds = one_or_all(
        "fully_connected" if head.regression_convolutions is None else "residual_convolutions"
        for head in heads.bbox_head
        if head.with_reg
    )
    yield "heads.regression_branch", kinds, "roi_head.bbox_head[t].regression_convolutions"


def _sampling(heads: ControlledRoIHeads) -> Iterator[Row]:
    """Of the first stage's RoIs."""
    first = heads.bbox_sampler[0]
    samplers = [first, getattr(heads, "regression_sampler", first)]
    where = "roi_head.bbox_sampler[0].num, roi_head.regression_sampler.num"
    yield "heads.rois_per_image", one_or_all(sampler.num for sampler in samplers), where
    yield "heads.positive_fraction", first.pos_fraction, "roi_head.bbox_sampler[0].pos_fraction"
    yield "heads.add_ground_truth", first.add_gt_as_proposals, "roi_head.bbox_sampler[0].add_gt_as_proposals"


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


def mask_rows(heads: ControlledRoIHeads, probes: ProbedHeads) -> Iterator[Row]:
    """Yield ``masks.*``."""
    stages = [int(stage) for stage in heads.mask_head] if isinstance(heads, MaskRoIHeads) else []
    yield "masks.stages", stages, "roi_head.mask_head"
    size = heads.mask_roi_extractor.roi_layers[0].output_size[0] if stages else None
    yield "masks.pool_size", size, "roi_head.mask_roi_extractor.roi_layers[0].output_size"
    weights = [float(heads.stage_loss_weights[stage - 1] * heads.mask_loss_weight) for stage in stages]
    yield "masks.loss_weight", weights, "roi_head.stage_loss_weights[t] * mask_loss_weight"
    shares = [mask_trunk_gradient(probes, stage) for stage in stages]
    yield "masks.trunk_gradient", shares, "probe: gradient at the pyramid over that without scaling"
    entering = probes.trained_on([heads.mask_head[str(stage)] for stage in stages])
    yield "masks.rois_entering", entering, "probe: roi_head.loss(), hooks on its mask_head[t]"


def mask_trunk_gradient(probes: ProbedHeads, stage: int) -> float | None:
    """Probe the share of a branch's gradient that reaches the trunk."""
    heads = probes.module
    maps = tuple(level.requires_grad_() for level in probe_features(probes.channels, 1))
    boxes = probe_boxes(8)
    rois, extractor = torch.cat([boxes.new_zeros(8, 1), boxes], dim=1), heads.mask_roi_extractor
    alone = extractor(maps[: extractor.num_inputs], rois)
    return gradient_share(heads.mask_features(stage, maps, rois), alone, maps[0])


def probed_heads(built: Built) -> ProbedHeads:
    """Let the probes ask the heads of what was built."""
    heads = built.model.roi_head
    first = heads.bbox_head[0]
    return ProbedHeads(
        heads,
        built.model.neck.out_channels,
        [_before_outputs(head) for head in heads.bbox_head],
        heads.bbox_sampler[0].num,
        (first.fc_reg.bias, first.bbox_coder.stds[0]),
        partial(_alone, heads),
        partial(_train, heads),
    )


def _before_outputs(head: nn.Module) -> list[nn.Module]:
    """Everything of a head before its outputs."""
    connected = [layer for name in ("shared_fcs", "cls_fcs", "reg_fcs") for layer in getattr(head, name, ())]
    convolutions = getattr(head, "regression_convolutions", None)
    return connected if convolutions is None else [*connected, *convolutions.blocks]


def stage_of(heads: ControlledRoIHeads, head: int) -> int:
    """The stage whose RoIs a head reads: its own, or the first one's for a further classifier."""
    return head if head < heads.num_stages else 0


def _alone(heads: ControlledRoIHeads, head: int, features: list[Tensor], rois: Tensor) -> Tensor:
    """What a head's layers give of RoIs."""
    stage = stage_of(heads, head)
    extractor = heads.bbox_roi_extractor[stage]
    logits, deltas = heads.stage_outputs(stage, extractor(tuple(features)[: extractor.num_inputs], rois))
    return logits[head - stage] if logits else deltas


def _train(
    heads: ControlledRoIHeads, features: list[Tensor], proposals: Tensor, truth: Tensor, labels: Tensor
) -> HeadStep:
    """Train for one step."""
    step, images, classes = HeadStep(features), range(len(features[0])), heads.bbox_head[0].num_classes

    def note(
        head: int,
        losses: dict,
        logits: Tensor | None,
        deltas: Tensor | None,
        rois: Tensor,
        labels: Tensor,
        *_,
        **_named,
    ):
        both = losses.get("loss_cls"), losses.get("loss_bbox")
        step.note(head, logits, deltas, both, rois, labels < classes)

    given = [tuple(InstanceData(bboxes=proposals.clone()) for _ in range(2)) for _ in images]
    if not isinstance(heads, DecoupledRoIHeads):
        given = [first for first, _ in given]
    with recorded(heads.bbox_head, "loss", note):
        heads.loss(tuple(features), given, [_sample(truth, labels % classes) for _ in images])
    return step


def _sample(truth: Tensor, labels: Tensor) -> DetDataSample:
    """An image with ground truth."""
    sample = DetDataSample(metainfo={"img_shape": IMAGE, "pad_shape": IMAGE})
    sample.gt_instances = InstanceData(bboxes=truth.clone(), labels=labels, masks=probe_bitmaps(truth))
    sample.ignored_instances = InstanceData(bboxes=truth[:0], labels=labels[:0])
    return sample
