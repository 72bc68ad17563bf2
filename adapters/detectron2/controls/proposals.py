"""Anchors, matching, sampling, losses and proposals of the RPN."""

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from adapters.detectron2.controls.control_rows import Row, one_or_all, rounded
from adapters.detectron2.sampling import TwoListRPN
from adapters.training.assembly import Built


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
    factors = side_factors(rpn.box2box_transform)
    yield "rpn.delta_clamp", factors, "probe: extreme deltas through proposal_generator.box2box_transform"


def _anchors(rpn: RPN) -> Iterator[Row]:
    cells = list(rpn.anchor_generator.cell_anchors)
    sides = [cell[:, 2:] - cell[:, :2] for cell in cells]
    areas = [one_or_all(rounded(side.prod(1).sqrt(), 3)) for side in sides]
    yield "rpn.anchor_sides", areas, "proposal_generator.anchor_generator.cell_anchors"
    ratios = one_or_all(rounded(side[:, 1] / side[:, 0]) for side in sides)
    yield "rpn.anchor_aspect_ratios", ratios, "proposal_generator.anchor_generator.cell_anchors"
    maps = [torch.zeros(1, 1, math.ceil(64 / stride), math.ceil(96 / stride)) for stride in (4, 8, 16, 32, 64)]
    grid = Boxes.cat(rpn.anchor_generator(maps)).tensor.double().numpy()
    # Adding zero makes one zero of the two.
    hashed = hashlib.sha256((np.round(grid, 3) + 0.0).tobytes()).hexdigest()
    yield "rpn.anchor_grid_sha256", hashed, "probe: proposal_generator.anchor_generator on five maps"


def _matching(matcher: Matcher) -> Iterator[Row]:
    """Read the thresholds, and probe the rule for ground truth that no anchor overlaps well.

    Anchor 0 is the best of ground truth 1 and overlaps ground truth 0 more; anchor 2 is the best of ground truth 2,
    at an IoU of 0.05, and anchor 3 that of ground truth 3, just short of being positive by its IoU.
    """
    _, negative, positive, _ = matcher.thresholds
    yield "rpn.positive_iou", positive, "proposal_generator.anchor_matcher.thresholds[2]"
    yield "rpn.negative_iou", negative, "proposal_generator.anchor_matcher.thresholds[1]"
    ious = [[0.25, 0.8, 0, 0], [0.2, 0, 0, 0], [0, 0, 0.05, 0], [0, 0, 0, 0.99 * positive]]
    matches, labels = matcher(torch.tensor(ious))
    read_from = "probe: proposal_generator.anchor_matcher on fixed IoUs"
    low_quality = bool(labels[3] == 1)
    yield "rpn.low_quality_matches", low_quality, read_from
    floor = 0.0 if labels[2] == 1 else 0.3
    yield "rpn.low_quality_floor", floor if low_quality else None, read_from
    regressed = "its best" if matches[0] == 0 else "the one it is best for"
    yield "rpn.low_quality_ground_truth", regressed if low_quality else None, read_from


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
    weight = rpn.loss_weight.get("loss_rpn_cls", 1.0)
    divisor = 3 * math.log(2) * weight / max(float(losses["loss_rpn_cls"]), 1e-12)
    known = {"anchors_per_image x images": 2 * rpn.batch_size_per_image, "sampled anchors": 3}
    return next((name for name, value in known.items() if math.isclose(divisor, value, rel_tol=1e-4)), "other")


def regression_loss(module: nn.Module) -> str:
    """Name of a box regression loss; smooth L1 with nothing smoothed is L1."""
    is_l1 = module.box_reg_loss_type == "smooth_l1" and module.smooth_l1_beta == 0
    return "l1" if is_l1 else module.box_reg_loss_type


def side_factors(transform: Box2BoxTransform) -> list[float]:
    """Least and greatest factor that deltas can put on a side."""
    # Great enough to meet the limits whatever the deviations; a box about 0 keeps small sides exact.
    deltas = torch.tensor([[0.0, 0.0, -1000.0, -1000.0], [0.0, 0.0, 1000.0, 1000.0]])
    boxes = transform.apply_deltas(deltas, torch.tensor([[-8.0, -8.0, 8.0, 8.0]] * 2))
    sides = (boxes[:, 2:] - boxes[:, :2]) / 16
    return rounded(torch.stack([sides.min(), sides.max()]))
