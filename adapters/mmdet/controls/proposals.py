"""Anchors, matching, sampling, losses and proposals of the RPN."""

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmengine.structures import InstanceData
from torch import Tensor, nn

from adapters.inspection.box_probes import anchor_values, delta_clamp, grid_digest, low_quality_rows
from adapters.inspection.control_rows import Row, divisor_name, one_or_all
from adapters.mmdet.sampling import TwoListRPN
from adapters.training.assembly import Built
from cascadebench.study.protocol import regression_loss_name

GRID_IMAGE = (96, 64)
"""Width and height of the image whose anchors are hashed, in pixels."""


def rows(built: Built) -> Iterator[Row]:
    """Yield ``rpn.*``."""
    head = built.model.rpn_head
    yield from _anchors(head)
    yield from _matching(head)
    yield from _selection(built)
    yield "rpn.border", head.train_cfg.allowed_border, "rpn_head.train_cfg.allowed_border"
    yield "rpn.padding_anchors", padding_anchors(head), "probe: rpn_head.get_anchors() for images of two sizes"
    yield "rpn.loss_normalizer", loss_normalizer(head), "probe: rpn_head.loss_by_feat() over the sums of its losses"
    yield "rpn.regression_loss", regression_loss(head.loss_bbox), "type(rpn_head.loss_bbox)"
    weights = [float(head.loss_cls.loss_weight), float(head.loss_bbox.loss_weight)]
    yield "rpn.loss_weights", weights, "rpn_head.loss_cls.loss_weight, .loss_bbox.loss_weight"
    yield "rpn.target_stds", [float(std) for std in head.bbox_coder.stds], "rpn_head.bbox_coder.stds"
    yield "rpn.delta_clamp", delta_clamp(head.bbox_coder.decode), "probe: rpn_head.bbox_coder.decode()"


def _anchors(head: RPNHead) -> Iterator[Row]:
    generator, where = head.prior_generator, "rpn_head.prior_generator"
    sides, ratios = anchor_values(generator.base_anchors)
    yield "rpn.anchor_sides", sides, f"{where}.base_anchors"
    yield "rpn.anchor_aspect_ratios", ratios, f"{where}.base_anchors"
    width, height = GRID_IMAGE
    sizes = [(-(-height // stride), -(-width // stride)) for stride, _ in generator.strides]
    digest = grid_digest(torch.cat(generator.grid_priors(sizes, device="cpu")))
    yield "rpn.anchor_grid_sha256", digest, f"probe: {where}.grid_priors()"


def _matching(head: RPNHead) -> Iterator[Row]:
    yield "rpn.positive_iou", head.assigner.pos_iou_thr, "rpn_head.assigner.pos_iou_thr"
    yield "rpn.negative_iou", head.assigner.neg_iou_thr, "rpn_head.assigner.neg_iou_thr"
    yield from low_quality_rows(partial(matches, head.assigner), "probe: rpn_head.assigner.assign()")


def matches(assigner: Any, anchors: Tensor, truth: Tensor) -> list[int]:
    """Match anchors: the number of the ground truth, from 1; 0 for background; -1 for neither."""
    given = InstanceData(bboxes=truth, labels=torch.zeros(len(truth), dtype=torch.long))
    return assigner.assign(InstanceData(priors=anchors), given).gt_inds.tolist()


def _selection(built: Built) -> Iterator[Row]:
    head = built.model.rpn_head
    yield "rpn.anchors_per_image", head.sampler.num, "rpn_head.sampler.num"
    yield "rpn.positive_fraction", head.sampler.pos_fraction, "rpn_head.sampler.pos_fraction"
    train, test = built.model.train_cfg.rpn_proposal, head.test_cfg
    for part, config, where in (("train", train, "train_cfg.rpn_proposal"), ("test", test, "rpn_head.test_cfg")):
        yield f"rpn.{part}_pre_nms", config.nms_pre, f"{where}.nms_pre"
        yield f"rpn.{part}_post_nms", config.max_per_img, f"{where}.max_per_img"
    yield "rpn.nms_iou", overlap_of_nms(test.nms), "rpn_head.test_cfg.nms"
    lists = head.train_nms_iou if isinstance(head, TwoListRPN) else [train.nms.iou_threshold]
    overlaps = [overlap_of_nms(train.nms | {"iou_threshold": overlap}) for overlap in lists]
    yield "rpn.train_nms_iou", overlaps, "train_cfg.rpn_proposal.nms, rpn_head.train_nms_iou"
    sides = one_or_all(float(config.min_bbox_size) for config in (train, test))
    yield "rpn.min_box_side", sides, "train_cfg.rpn_proposal.min_bbox_size, rpn_head.test_cfg.min_bbox_size"


def overlap_of_nms(config: dict[str, Any]) -> Any:
    """IoU of hard NMS; another kind of NMS is named before its IoU."""
    return config["iou_threshold"] if config["type"] == "nms" else f"{config['type']} {config['iou_threshold']}"


def padding_anchors(head: RPNHead) -> bool:
    """Say whether anchors are sampled that lie beside an image of 64 x 64 in a batch of 128 x 128."""
    metas = [{"img_shape": (side, side), "pad_shape": (side, side)} for side in (64, 128)]
    sizes = [(128 // stride, 128 // stride) for stride, _ in head.prior_generator.strides]
    anchors, flags = (torch.cat(one[0]) for one in head.get_anchors(sizes, metas, device="cpu"))
    inside = anchor_inside_flags(anchors, flags, metas[0]["img_shape"], head.train_cfg.allowed_border)
    beside = ((anchors[:, :2] + anchors[:, 2:]) / 2 > 64).any(dim=1)
    return bool((inside & beside).any())


def loss_normalizer(head: RPNHead) -> str:
    """Say what divides both losses, on two images so small that all their anchors are sampled."""
    head = copy.copy(head)
    head.train_cfg = copy.copy(head.train_cfg)
    head.train_cfg.allowed_border = -1  # a border would leave no anchor of the small images
    levels, anchors = len(head.prior_generator.strides), head.num_base_priors
    scores = [torch.zeros(2, anchors, 1, 1) for _ in range(levels)]
    deltas = [torch.zeros(2, 4 * anchors, 1, 1) for _ in range(levels)]
    metas = [{"img_shape": (64, 64), "pad_shape": (64, 64)}] * 2
    anchor = head.prior_generator.base_anchors[2][:1]
    truth = InstanceData(bboxes=anchor + 0.05 * (anchor[:, 2:] - anchor[:, :2]).mean(), labels=torch.zeros(1).long())
    losses = head.loss_by_feat(scores, deltas, [truth] * 2, metas)
    grid = head.get_anchors([(1, 1)] * levels, metas, device="cpu")
    labels, weights, targets, target_weights = (
        torch.cat([level.flatten(0, 1) for level in kind]) for kind in head.get_targets(*grid, [truth] * 2, metas)[:4]
    )
    sums = (
        head.loss_cls(torch.zeros(len(labels), 1), labels, weights, reduction_override="sum"),
        head.loss_bbox(torch.zeros(len(labels), 4), targets, target_weights, reduction_override="sum"),
    )
    divisors = [total / sum(losses[name]) for total, name in zip(sums, ("loss_rpn_cls", "loss_rpn_bbox"), strict=True)]
    known = {"anchors_per_image x images": 2 * head.sampler.num, "sampled anchors": int((weights > 0).sum())}
    return divisor_name(divisors, known)


def regression_loss(module: nn.Module) -> str:
    """Name of a box regression loss."""
    kind = type(module).__name__
    if kind == "SmoothL1Loss":
        return regression_loss_name(module.beta)
    return "l1" if kind == "L1Loss" else kind
