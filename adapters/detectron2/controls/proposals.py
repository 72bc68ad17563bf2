"""Anchors, matching, sampling, losses and proposals of the RPN."""

import math
from collections.abc import Iterator
from functools import partial

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from adapters.detectron2.sampling import TwoListRPN
from adapters.inspection.box_probes import anchor_values, delta_clamp, grid_digest, low_quality_rows
from adapters.inspection.control_rows import Row, divisor_name
from adapters.training.assembly import Built
from cascadebench.study.protocol import regression_loss_name


def rows(built: Built) -> Iterator[Row]:
    """Yield ``rpn.*``."""
    rpn = built.model.proposal_generator
    yield from _anchors(rpn)
    yield from _matching(rpn.anchor_matcher)
    yield "rpn.padding_anchors", padding_anchors(rpn), "probe: labels of anchors beside a small image"
    yield "rpn.border", int(rpn.anchor_boundary_thresh), "proposal_generator.anchor_boundary_thresh"
    yield "rpn.anchors_per_image", rpn.batch_size_per_image, "proposal_generator.batch_size_per_image"
    yield "rpn.positive_fraction", rpn.positive_fraction, "proposal_generator.positive_fraction"
    for part, training in (("train", True), ("test", False)):
        yield f"rpn.{part}_pre_nms", rpn.pre_nms_topk[training], f"proposal_generator.pre_nms_topk[{training}]"
        yield f"rpn.{part}_post_nms", rpn.post_nms_topk[training], f"proposal_generator.post_nms_topk[{training}]"
    yield "rpn.nms_iou", rpn.nms_thresh, "proposal_generator.nms_thresh"
    lists = "train_nms_thresh" if isinstance(rpn, TwoListRPN) else "nms_thresh"
    thresholds = rpn.train_nms_thresh if isinstance(rpn, TwoListRPN) else [rpn.nms_thresh]
    yield "rpn.train_nms_iou", thresholds, f"proposal_generator.{lists}"
    yield "rpn.min_box_side", float(rpn.min_box_size), "proposal_generator.min_box_size"
    yield "rpn.regression_loss", regression_loss(rpn), "proposal_generator.box_reg_loss_type, .smooth_l1_beta"
    weights = [float(rpn.loss_weight.get(term, 1.0)) for term in ("loss_rpn_cls", "loss_rpn_loc")]
    yield "rpn.loss_weights", weights, "proposal_generator.loss_weight"
    yield "rpn.loss_normalizer", loss_normalizer(rpn), "probe: classification loss of three anchors in two images"
    stds = [round(1 / weight, 10) for weight in rpn.box2box_transform.weights]
    yield "rpn.target_stds", stds, "1 / proposal_generator.box2box_transform.weights"
    factors = delta_clamp(partial(decoded, rpn.box2box_transform))
    yield "rpn.delta_clamp", factors, "probe: extreme deltas through proposal_generator.box2box_transform"


def _anchors(rpn: RPN) -> Iterator[Row]:
    generator, where = rpn.anchor_generator, "proposal_generator.anchor_generator"
    sides, ratios = anchor_values(list(generator.cell_anchors))
    yield "rpn.anchor_sides", sides, f"{where}.cell_anchors"
    yield "rpn.anchor_aspect_ratios", ratios, f"{where}.cell_anchors"
    maps = [torch.zeros(1, 1, math.ceil(64 / stride), math.ceil(96 / stride)) for stride in (4, 8, 16, 32, 64)]
    digest = grid_digest(Boxes.cat(generator(maps)).tensor)
    yield "rpn.anchor_grid_sha256", digest, f"probe: {where} on five maps"


def _matching(matcher: Matcher) -> Iterator[Row]:
    _, negative, positive, _ = matcher.thresholds
    yield "rpn.positive_iou", positive, "proposal_generator.anchor_matcher.thresholds[2]"
    yield "rpn.negative_iou", negative, "proposal_generator.anchor_matcher.thresholds[1]"
    where = "probe: proposal_generator.anchor_matcher on fixed IoUs"
    yield from low_quality_rows(partial(matches, matcher), where)


def matches(matcher: Matcher, anchors: Tensor, truth: Tensor) -> list[int]:
    """Match anchors: the number of the ground truth, from 1; 0 for background; -1 for neither."""
    numbers, labels = matcher(pairwise_iou(Boxes(truth), Boxes(anchors)))
    return torch.where(labels == 1, numbers + 1, labels).tolist()


def padding_anchors(rpn: RPN) -> bool:
    """Say whether anchors are sampled that lie beside an image of 32 x 32 in a batch of 128 x 128."""
    maps = [torch.zeros(1, 1, 128 // stride, 128 // stride) for stride in (4, 8, 16, 32, 64)]
    anchors = rpn.anchor_generator(maps)
    target = Instances((32, 32), gt_boxes=Boxes(torch.tensor([[4.0, 4.0, 28.0, 28.0]])))
    torch.manual_seed(0)
    (labels,), _ = rpn.label_and_sample_anchors(anchors, [target])
    beside = (Boxes.cat(anchors).get_centers() > 32).any(1)
    return bool((labels[beside] >= 0).any())


def loss_normalizer(rpn: RPN) -> str:
    """Say what divides the classification loss, by one positive and two negatives in two images."""
    boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0], [8.0, 8.0, 40.0, 24.0]])
    labels = [torch.tensor([1, 0]), torch.tensor([0, -1])]
    with EventStorage(), torch.no_grad():
        losses = rpn.losses([Boxes(boxes)], [torch.zeros(2, 2)], labels, [torch.zeros(2, 2, 4)], [boxes, boxes])
    total = 3 * math.log(2) * rpn.loss_weight.get("loss_rpn_cls", 1.0)
    known = {"anchors_per_image x images": 2 * rpn.batch_size_per_image, "sampled anchors": 3}
    return divisor_name([total / max(float(losses["loss_rpn_cls"]), 1e-12)], known)


def regression_loss(module: nn.Module) -> str:
    """Name of a box regression loss."""
    kind = module.box_reg_loss_type
    return regression_loss_name(module.smooth_l1_beta) if kind == "smooth_l1" else kind


def decoded(transform: Box2BoxTransform, boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes [N, 4] that a transform makes of boxes and deltas."""
    return transform.apply_deltas(deltas, boxes)
