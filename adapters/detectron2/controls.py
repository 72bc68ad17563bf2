"""Effective values of a run in Detectron2, read back from built objects."""

from collections.abc import Iterator
from typing import Any

import torch
from detectron2.data import transforms as T
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.backbone import ResNet
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import nn

from adapters.contract import Control
from adapters.detectron2.config import FixedStatisticsBatchNorm2d, build_detector
from adapters.detectron2.data import ImageReader
from adapters.detectron2.operators import operators_in_use
from adapters.detectron2.stages import ControlledROIHeads
from adapters.detectron2.training import build_optimizer, build_scheduler
from adapters.learning_rates import milestones_and_warmup
from cascadebench.run import Run

Row = tuple[str, Any, str]


def read_controls(run: Run) -> list[Control]:
    """Build the detector, its optimizer, schedule and transforms, and read every control."""
    model = build_detector(run)
    return [
        Control(*row)
        for rows in (
            _schedule(run), _optimizer(model, run), _input(model, run), _backbone(model), _proposals(model),
            _heads(model.roi_heads), _inference(model, run),
        )
        for row in rows
    ]  # fmt: skip


def _schedule(run: Run) -> Iterator[Row]:
    optimizer = build_optimizer(nn.ParameterList([nn.Parameter(torch.zeros(1))]), run)
    scheduler = build_scheduler(optimizer, run)
    optimizer.step()
    rates = []
    for _ in range(scheduler._max_iter):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    yield from milestones_and_warmup(rates, "[scheduler.step() for every iteration]")


def _optimizer(model: GeneralizedRCNN, run: Run) -> Iterator[Row]:
    optimizer = build_optimizer(model, run)
    groups = optimizer.param_groups
    name = "sgd" if isinstance(optimizer, torch.optim.SGD) else type(optimizer).__name__
    yield "optimizer.name", name, "type(optimizer)"
    for key in ("momentum", "weight_decay", "nesterov"):
        yield f"optimizer.{key}", groups[0][key], f"optimizer.param_groups[0]['{key}']"
    settings = {(group["lr"], group["weight_decay"], group["momentum"]) for group in groups}
    yield "optimizer.parameter_groups", len(settings), "distinct settings in optimizer.param_groups"
    yield "optimizer.gradient_clip_norm", optimizer.gradient_clip_norm, "optimizer.gradient_clip_norm"


def _input(model: GeneralizedRCNN, run: Run) -> Iterator[Row]:
    yield "input.pixel_mean", _rounded(model.pixel_mean), "model.pixel_mean"
    yield "input.pixel_std", _rounded(model.pixel_std), "model.pixel_std"
    reader = ImageReader(run)
    red = reader.pixels(Image.new("RGB", (1, 1), (255, 0, 0)))[0, 0]
    yield "input.channel_order", "rgb" if red[0] == 255 else "bgr", "probe: a red pixel"
    yield "input.size_divisor", model.backbone.size_divisibility, "model.backbone.size_divisibility"
    # Squares show the shorter side, a very long picture the limit of the longer one.
    square = reader.max_long_side
    resizes = [reader.resize(square, square, side) for side in run.protocol.input.train_short_sides]
    yield "input.resize", _resizing(resizes[0]), "type(resize), resize.interp"
    yield "input.train_short_sides", sorted(resize.new_h for resize in resizes), "resize.new_h of a square picture"
    test = reader.resize(square, square, reader.test_short_side)
    yield "input.test_short_side", test.new_h, "resize.new_h of a square picture"
    long = reader.resize(100 * square, square, reader.test_short_side)
    yield "input.max_long_side", long.new_w, "resize.new_w of a very long picture"


def _resizing(resize: T.Transform) -> str:
    is_bilinear = type(resize) is T.ResizeTransform and resize.interp == Image.Resampling.BILINEAR
    return "pillow_bilinear" if is_bilinear else f"{type(resize).__name__} {getattr(resize, 'interp', '')}"


def _rounded(values: torch.Tensor) -> list[float]:
    """Pixel statistics without the noise of float32."""
    return [round(float(value), 4) for value in values.flatten()]


def batch_norm_mode(backbone: ResNet) -> str:
    """Say how the last stage's batch norm behaves in training: trained, fixed_statistics or frozen."""
    norm = backbone.stages[-1][-1].conv2.norm
    if isinstance(norm, FrozenBatchNorm2d):
        return "frozen"
    return "fixed_statistics" if isinstance(norm, FixedStatisticsBatchNorm2d) else "trained"


def frozen_parameters(backbone: ResNet) -> int:
    """Count the numbers of the backbone that a full training would learn and this one leaves.

    Detectron2 makes buffers of a frozen norm's scale and shift.
    """
    frozen = sum(parameter.numel() for parameter in backbone.parameters() if not parameter.requires_grad)
    norms = [module for module in backbone.modules() if isinstance(module, FrozenBatchNorm2d)]
    return frozen + sum(norm.weight.numel() + norm.bias.numel() for norm in norms)


def _backbone(model: GeneralizedRCNN) -> Iterator[Row]:
    backbone = model.backbone.bottom_up
    yield "backbone.blocks", [len(stage) for stage in backbone.stages], "backbone.stages"
    shapes = backbone.output_shape()
    yield "backbone.channels", [shape.channels for shape in shapes.values()], "backbone.output_shape()"
    first = backbone.stages[1][0]
    yield "backbone.stride_in_1x1", first.conv1.kernel_size == (1, 1) and first.conv1.stride == (2, 2), "res3[0].conv1"
    yield (
        "backbone.frozen_parameters", frozen_parameters(backbone),
        "backbone.parameters() without requires_grad, weight and bias of FrozenBatchNorm2d",
    )  # fmt: skip
    yield "backbone.batch_norm", batch_norm_mode(backbone), "type(backbone.res5[-1].conv2.norm)"
    yield "neck.channels", model.backbone.output_shape()["p2"].channels, "model.backbone.output_shape()['p2']"


def _proposals(model: GeneralizedRCNN) -> Iterator[Row]:
    rpn = model.proposal_generator
    anchors = list(rpn.anchor_generator.cell_anchors)
    sides = [(cell[:, 2:] - cell[:, :2]) for cell in anchors]
    areas = [round(float(side[0].prod().sqrt()), 3) for side in sides]
    yield "rpn.anchor_sides", areas, "proposal_generator.anchor_generator.cell_anchors"
    ratios = [round(float(ratio), 4) for ratio in sides[0][:, 1] / sides[0][:, 0]]
    yield "rpn.anchor_aspect_ratios", ratios, "proposal_generator.anchor_generator.cell_anchors[0]"
    _, negative, positive, _ = rpn.anchor_matcher.thresholds
    yield "rpn.positive_iou", positive, "proposal_generator.anchor_matcher.thresholds[2]"
    yield "rpn.negative_iou", negative, "proposal_generator.anchor_matcher.thresholds[1]"
    low_quality = rpn.anchor_matcher.allow_low_quality_matches
    yield "rpn.low_quality_matches", low_quality, "proposal_generator.anchor_matcher.allow_low_quality_matches"
    yield "rpn.anchors_per_image", rpn.batch_size_per_image, "proposal_generator.batch_size_per_image"
    yield "rpn.positive_fraction", rpn.positive_fraction, "proposal_generator.positive_fraction"
    for part, training in (("train", True), ("test", False)):
        yield f"rpn.{part}_pre_nms", rpn.pre_nms_topk[training], f"proposal_generator.pre_nms_topk[{training}]"
        yield f"rpn.{part}_post_nms", rpn.post_nms_topk[training], f"proposal_generator.post_nms_topk[{training}]"
    yield "rpn.nms_iou", rpn.nms_thresh, "proposal_generator.nms_thresh"
    yield "rpn.border", rpn.anchor_boundary_thresh, "proposal_generator.anchor_boundary_thresh"
    yield "rpn.regression_loss", _loss(rpn), "proposal_generator.box_reg_loss_type, .smooth_l1_beta"


def _loss(module: nn.Module) -> str:
    """Name of a box regression loss; smooth L1 with nothing smoothed is L1."""
    is_l1 = module.box_reg_loss_type == "smooth_l1" and module.smooth_l1_beta == 0
    return "l1" if is_l1 else module.box_reg_loss_type


def _heads(heads: ControlledROIHeads) -> Iterator[Row]:
    predictors = list(heads.box_predictor)
    yield "heads.stages", len(heads.box_head), "len(roi_heads.box_head)"
    thresholds = [matcher.thresholds[1] for matcher in heads.proposal_matchers]
    yield "heads.iou_threshold", thresholds, "roi_heads.proposal_matchers[t].thresholds[1]"
    stds = [[round(1 / weight, 10) for weight in one.box2box_transform.weights] for one in predictors]
    yield "heads.target_stds", stds, "1 / roi_heads.box_predictor[t].box2box_transform.weights"
    outputs = {one.bbox_pred.out_features for one in predictors}
    kind = {(4,): "class_agnostic", (4 * heads.num_classes,): "class_specific"}.get(tuple(outputs), "mixed")
    yield "heads.regression", kind, "roi_heads.box_predictor[t].bbox_pred.out_features"
    losses = ", ".join(sorted({_loss(one) for one in predictors}))
    yield "heads.regression_loss", losses, "roi_heads.box_predictor[t].box_reg_loss_type, .smooth_l1_beta"
    terms = [one.loss_weight["loss_cls"] for one in predictors]
    yield "heads.loss_weight", terms, "roi_heads.box_predictor[t].loss_weight['loss_cls']"
    yield "heads.trunk_gradient", trunk_gradients(heads), "probe: gradient at the feature map over that without scaling"
    layers = heads.box_head[0].fcs
    yield "heads.width", layers[-1].out_features, "roi_heads.box_head[0].fcs[-1].out_features"
    yield "heads.fully_connected_layers", len(layers), "len(roi_heads.box_head[0].fcs)"
    yield "heads.pool_size", heads.box_pooler.output_size[0], "roi_heads.box_pooler.output_size"
    ratio = heads.box_pooler.level_poolers[0].sampling_ratio
    yield "heads.sampling_ratio", ratio, "roi_heads.box_pooler.level_poolers[0].sampling_ratio"
    yield "heads.rois_per_image", heads.batch_size_per_image, "roi_heads.batch_size_per_image"
    yield "heads.positive_fraction", heads.positive_fraction, "roi_heads.positive_fraction"
    yield "heads.add_ground_truth", heads.proposal_append_gt, "roi_heads.proposal_append_gt"


def trunk_gradients(heads: ControlledROIHeads) -> list[float]:
    """Probe the share of each stage's gradient that reaches the trunk.

    Backpropagates through a stage as it trains, and through pooler and head alone; the ratio of the gradients at the
    feature map is the share. The heads are left in training mode, their gradients empty.
    """
    heads.train()
    channels = heads.box_head[0].fcs[0].in_features // heads.box_pooler.output_size[0] ** 2
    boxes = Boxes(torch.tensor([[8.0, 8.0, 100.0, 90.0], [20.0, 30.0, 60.0, 50.0]]))
    proposals = [Instances((128, 128), proposal_boxes=boxes)]
    random = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, channels, 32 // 2**level, 32 // 2**level, generator=random) for level in range(4)]
    shares = []
    for stage, (head, predictor) in enumerate(zip(heads.box_head, heads.box_predictor, strict=True)):
        plain, trained = ([one.clone().requires_grad_() for one in maps] for _ in range(2))
        predictor(head(heads.box_pooler(plain, [boxes])))[0].square().sum().backward()
        heads._run_stage(trained, proposals, stage)[0].square().sum().backward()
        shares.append(round(float(trained[0].grad.norm() / plain[0].grad.norm()), 5))
    heads.zero_grad()
    return shares


def _inference(model: GeneralizedRCNN, run: Run) -> Iterator[Row]:
    last = model.roi_heads.box_predictor[-1]
    yield "inference.score_threshold", last.test_score_thresh, "roi_heads.box_predictor[-1].test_score_thresh"
    yield "inference.nms_iou", last.test_nms_thresh, "roi_heads.box_predictor[-1].test_nms_thresh"
    yield "inference.max_detections", last.test_topk_per_image, "roi_heads.box_predictor[-1].test_topk_per_image"
    yield "inference.score_rule", run.variant.headline, "run.variant.headline"
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    yield "model.trainable_parameters", trainable, "model.parameters() with requires_grad"
    yield "model.operators", operators_in_use(), "detectron2.layers.nms.box_ops, detectron2.layers.roi_align.roi_align"
