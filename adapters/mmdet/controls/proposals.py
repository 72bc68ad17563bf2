"""Controls of the region proposal network."""

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmengine.structures import InstanceData
from torch import Tensor

from adapters.mmdet.controls.control_rows import Row, delta_clamp, one_value, overlap_of_nms, regression_loss, rounded
from adapters.mmdet.sampling import TwoListRPN
from adapters.training.assembly import Built

GRID_IMAGE = (96, 64)
"""Width and height of the image whose anchors are hashed, in pixels."""


def proposal_rows(built: Built) -> Iterator[Row]:
    """Anchors, matching, sampling, losses and proposals."""
    head = built.model.rpn_head
    yield from _anchor_rows(head)
    yield from _matching_rows(head)
    yield from _selection_rows(built)
    border = head.train_cfg.allowed_border
    yield "rpn.border", border, "rpn_head.train_cfg.allowed_border"
    yield "rpn.padding_anchors", padding_anchors(head), "probe: rpn_head.get_anchors() for images of two sizes"
    yield "rpn.loss_normalizer", loss_normalizer(head), "probe: rpn_head.loss_by_feat() over the sums of its losses"
    yield "rpn.regression_loss", regression_loss(head.loss_bbox), "type(rpn_head.loss_bbox)"
    weights = [float(head.loss_cls.loss_weight), float(head.loss_bbox.loss_weight)]
    yield "rpn.loss_weights", weights, "rpn_head.loss_cls.loss_weight, .loss_bbox.loss_weight"
    yield "rpn.target_stds", [float(std) for std in head.bbox_coder.stds], "rpn_head.bbox_coder.stds"
    yield "rpn.delta_clamp", delta_clamp(head.bbox_coder), "probe: rpn_head.bbox_coder.decode()"


def _anchor_rows(head: RPNHead) -> Iterator[Row]:
    anchors, where = head.prior_generator.base_anchors, "rpn_head.prior_generator.base_anchors"
    sizes = [base[:, 2:] - base[:, :2] for base in anchors]
    sides = [one_value(rounded(size.prod(1).sqrt(), 3)) for size in sizes]
    yield "rpn.anchor_sides", sides, where
    yield "rpn.anchor_aspect_ratios", one_value(rounded(size[:, 1] / size[:, 0]) for size in sizes), where
    yield "rpn.anchor_grid_sha256", anchor_grid_digest(head), "probe: rpn_head.prior_generator.grid_priors()"


def anchor_grid_digest(head: RPNHead) -> str:
    """Hash the anchors of a fixed image: level by level, row by row, by aspect ratio at each position."""
    width, height = GRID_IMAGE
    sizes = [(-(-height // stride), -(-width // stride)) for stride, _ in head.prior_generator.strides]
    grid = torch.cat(head.prior_generator.grid_priors(sizes, device="cpu")).double().numpy()
    # Minus zero has other bytes than zero.
    return hashlib.sha256(np.ascontiguousarray(np.round(grid, 3) + 0.0).tobytes()).hexdigest()


def _matching_rows(head: RPNHead) -> Iterator[Row]:
    assigner, where = head.assigner, "probe: rpn_head.assigner.assign()"
    yield "rpn.positive_iou", assigner.pos_iou_thr, "rpn_head.assigner.pos_iou_thr"
    yield "rpn.negative_iou", assigner.neg_iou_thr, "rpn_head.assigner.neg_iou_thr"
    # The second ground truth's only anchor covers this share of it.
    found = {share: matches(assigner, [[0, 0, 100, 100], [200, 0, 200 + share, 100]])[1] == 2 for share in (5, 35)}
    yield "rpn.low_quality_matches", found[35], where
    yield "rpn.low_quality_floor", 0.0 if found[5] else 0.3, where
    # The first anchor is the first ground truth's; the second overlaps that by .4, and is the best of the second, .35.
    overlapping = matches(assigner, [[0, 0, 40, 100], [0, 0, 100, 100]], [[0, 0, 40, 100], [65, 0, 100, 100]])[1]
    names = {1: "its best", 2: "the one it is best for"}
    yield "rpn.low_quality_ground_truth", names.get(overlapping, "none"), where


def matches(assigner: Any, anchors: list, truth: list | None = None) -> list[int]:
    """Match anchors: the number of the ground truth, from 1; 0 for background; -1 for neither."""
    boxes = torch.tensor(truth or [[0, 0, 100, 100], [200, 0, 300, 100]], dtype=torch.float32)
    given = InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long))
    return assigner.assign(InstanceData(priors=torch.tensor(anchors, dtype=torch.float32)), given).gt_inds.tolist()


def _selection_rows(built: Built) -> Iterator[Row]:
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
    sides = one_value(float(config.min_bbox_size) for config in (train, test))
    yield "rpn.min_box_side", sides, "train_cfg.rpn_proposal.min_bbox_size, rpn_head.test_cfg.min_bbox_size"


def padding_anchors(head: RPNHead) -> bool:
    """Probe whether anchors beyond an image's own padded size take part when the batch has a larger image."""
    metas = [{"img_shape": (side, side), "pad_shape": (side, side)} for side in (64, 128)]
    sizes = [(128 // stride, 128 // stride) for stride, _ in head.prior_generator.strides]
    anchors, flags = (torch.cat(one[0]) for one in head.get_anchors(sizes, metas, device="cpu"))
    inside = anchor_inside_flags(anchors, flags, metas[0]["img_shape"], head.train_cfg.allowed_border)
    beyond = ((anchors[:, :2] + anchors[:, 2:]) / 2 > 64).any(dim=1)
    return bool((inside & beyond).any())


def loss_normalizer(head: RPNHead) -> str:
    """Probe what divides both losses, on two images so small that all their anchors are sampled."""
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
    found = [total / sum(losses[name]) for total, name in zip(sums, ("loss_rpn_cls", "loss_rpn_bbox"), strict=True)]
    if _all_near(found, 2 * head.sampler.num):
        return "anchors_per_image x images"
    return "sampled anchors" if _all_near(found, int((weights > 0).sum())) else "other"


def _all_near(values: list[Tensor], expected: float) -> bool:
    return all(abs(float(value) / expected - 1) < 1e-3 for value in values)
