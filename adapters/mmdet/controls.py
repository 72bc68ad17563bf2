"""Effective values of a run in MMDetection, read back from built objects."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import nn

from adapters.contract import Control
from adapters.learning_rates import milestones_and_warmup
from adapters.mmdet.config import build_detector
from adapters.mmdet.data import test_transforms, training_transforms
from adapters.mmdet.operators import operators_in_use
from adapters.mmdet.stages import stage_modules
from adapters.mmdet.training import build_optimizer, build_schedulers
from cascadebench.run import Run


def read_controls(run: Run) -> list[Control]:
    """Build the detector, its optimizer, schedule and transforms, and read every control."""
    model = build_detector(run)
    return [
        Control(*row)
        for rows in (
            _schedule(run), _optimizer(model, run), _input(model, run), _backbone(model), _proposals(model),
            _heads(model), _inference(model, run),
        )
        for row in rows
    ]  # fmt: skip


Row = tuple[str, Any, str]


def _schedule(run: Run) -> Iterator[Row]:
    parameter = nn.Parameter(torch.zeros(1))
    wrapper = build_optimizer(nn.ParameterList([parameter]), run)
    schedulers = build_schedulers(wrapper, run)
    rates = []
    for _ in range(run.protocol.schedule.iterations):
        rates.append(wrapper.param_groups[0]["lr"])
        wrapper.optimizer.step()  # nothing to step, but PyTorch warns about a schedule without it
        for scheduler in schedulers:
            scheduler.step()
    yield from milestones_and_warmup(rates, "[scheduler.step() for every iteration]")


def _optimizer(model: BaseModel, run: Run) -> Iterator[Row]:
    wrapper = build_optimizer(model, run)
    groups = wrapper.param_groups
    yield "optimizer.name", type(wrapper.optimizer).__name__.lower(), "type(optim_wrapper.optimizer)"
    for name, key in (("momentum", "momentum"), ("weight_decay", "weight_decay"), ("nesterov", "nesterov")):
        yield f"optimizer.{name}", groups[0][key], f"optim_wrapper.param_groups[0]['{key}']"
    settings = {(group["lr"], group["weight_decay"], group["momentum"]) for group in groups}
    yield "optimizer.parameter_groups", len(settings), "distinct settings in optim_wrapper.param_groups"
    clip = wrapper.clip_grad_kwargs["max_norm"] if wrapper.clip_grad_kwargs else None
    yield "optimizer.gradient_clip_norm", clip, "optim_wrapper.clip_grad_kwargs"


def _input(model: BaseModel, run: Run) -> Iterator[Row]:
    preprocessor = model.data_preprocessor
    yield "input.pixel_mean", _rounded(preprocessor.mean), "data_preprocessor.mean"
    yield "input.pixel_std", _rounded(preprocessor.std), "data_preprocessor.std"
    # MMDetection reads BGR; the preprocessor swaps it.
    order = "rgb" if preprocessor._channel_conversion else "bgr"
    yield "input.channel_order", order, "data_preprocessor._channel_conversion"
    yield "input.size_divisor", preprocessor.pad_size_divisor, "data_preprocessor.pad_size_divisor"
    train_resize = training_transforms(run).transforms[2]
    test_resize = test_transforms(run).transforms[1]
    resizing = f"{train_resize.backend}_{train_resize.interpolation}"
    yield "input.resize", resizing, "Resize.backend, Resize.interpolation"
    sides = sorted(run.protocol.input.train_short_sides)
    yield "input.train_short_sides", sides, "TrainingOrder.short_sides"
    yield "input.test_short_side", test_resize.scale[1], "Resize.scale[1]"
    yield "input.max_long_side", train_resize.scale[0], "Resize.scale[0]"


def _rounded(values: torch.Tensor) -> list[float]:
    """Pixel statistics without the noise of float32."""
    return [round(float(value), 4) for value in values.flatten()]


def batch_norm_mode(backbone: nn.Module) -> str:
    """Say how the last stage's batch norm behaves in training: trained, fixed_statistics or frozen."""
    backbone.train()
    norm = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)][-1]
    if norm.training:
        return "trained"
    return "fixed_statistics" if norm.weight.requires_grad else "frozen"


def _backbone(model: BaseModel) -> Iterator[Row]:
    backbone = model.backbone
    layers = [getattr(backbone, name) for name in backbone.res_layers]
    yield "backbone.blocks", [len(layer) for layer in layers], "backbone.res_layers"
    yield "backbone.channels", list(model.neck.in_channels), "neck.in_channels"
    first = layers[1][0]
    yield (
        "backbone.stride_in_1x1",
        first.conv1.kernel_size == (1, 1) and first.conv1.stride == (2, 2),
        "layer2[0].conv1",
    )
    frozen = sum(parameter.numel() for parameter in backbone.parameters() if not parameter.requires_grad)
    yield "backbone.frozen_parameters", frozen, "backbone.parameters() without requires_grad"
    yield "backbone.batch_norm", batch_norm_mode(backbone), "backbone's last BatchNorm2d after backbone.train()"
    yield "neck.channels", model.neck.out_channels, "neck.out_channels"


def _proposals(model: BaseModel) -> Iterator[Row]:
    head = model.rpn_head
    generator = head.prior_generator
    sides = [float((base[:, 2] - base[:, 0]).mul(base[:, 3] - base[:, 1]).sqrt()[0]) for base in generator.base_anchors]
    yield "rpn.anchor_sides", [round(side, 3) for side in sides], "rpn_head.prior_generator.base_anchors"
    ratios = [round(float(ratio), 4) for ratio in generator.ratios]
    yield "rpn.anchor_aspect_ratios", ratios, "rpn_head.prior_generator.ratios"
    yield "rpn.positive_iou", head.assigner.pos_iou_thr, "rpn_head.assigner.pos_iou_thr"
    yield "rpn.negative_iou", head.assigner.neg_iou_thr, "rpn_head.assigner.neg_iou_thr"
    low_quality = head.assigner.match_low_quality and head.assigner.min_pos_iou == 0
    yield "rpn.low_quality_matches", low_quality, "rpn_head.assigner.match_low_quality, .min_pos_iou"
    yield "rpn.anchors_per_image", head.sampler.num, "rpn_head.sampler.num"
    yield "rpn.positive_fraction", head.sampler.pos_fraction, "rpn_head.sampler.pos_fraction"
    for part, config in (("train", model.train_cfg.rpn_proposal), ("test", head.test_cfg)):
        where = "train_cfg.rpn_proposal" if part == "train" else "rpn_head.test_cfg"
        yield f"rpn.{part}_pre_nms", config.nms_pre, f"{where}.nms_pre"
        yield f"rpn.{part}_post_nms", config.max_per_img, f"{where}.max_per_img"
    yield "rpn.nms_iou", head.test_cfg.nms.iou_threshold, "rpn_head.test_cfg.nms.iou_threshold"
    yield "rpn.border", head.train_cfg.allowed_border, "rpn_head.train_cfg.allowed_border"
    yield "rpn.regression_loss", _loss(head.loss_bbox), "type(rpn_head.loss_bbox)"


def _loss(module: nn.Module) -> str:
    """Name of a box regression loss."""
    return {"L1Loss": "l1", "SmoothL1Loss": "smooth_l1"}.get(type(module).__name__, type(module).__name__)


def _heads(model: BaseModel) -> Iterator[Row]:
    roi_head = model.roi_head
    extractors, heads = zip(*stage_modules(roi_head), strict=True)
    assigners = roi_head.bbox_assigner if len(heads) > 1 else [roi_head.bbox_assigner]
    sampler = roi_head.bbox_sampler[0] if len(heads) > 1 else roi_head.bbox_sampler
    yield "heads.stages", len(heads), "len(roi_head.bbox_head)"
    yield "heads.iou_threshold", [one.pos_iou_thr for one in assigners], "roi_head.bbox_assigner[t].pos_iou_thr"
    stds = [[round(float(std), 10) for std in head.bbox_coder.stds] for head in heads]
    yield "heads.target_stds", stds, "roi_head.bbox_head[t].bbox_coder.stds"
    agnostic = {head.reg_class_agnostic for head in heads}
    kind = {(True,): "class_agnostic", (False,): "class_specific"}.get(tuple(agnostic), "mixed")
    yield "heads.regression", kind, "roi_head.bbox_head[t].reg_class_agnostic"
    yield "heads.regression_loss", ", ".join(sorted({_loss(head.loss_bbox) for head in heads})), "type(loss_bbox)"
    weights = getattr(roi_head, "stage_loss_weights", [1.0])
    terms = [weight * head.loss_cls.loss_weight for weight, head in zip(weights, heads, strict=True)]
    yield "heads.loss_weight", terms, "roi_head.stage_loss_weights[t] * bbox_head[t].loss_cls.loss_weight"
    yield (
        "heads.trunk_gradient",
        trunk_gradients(model),
        "probe: gradient at the pooled features over that without scaling",
    )
    yield "heads.width", heads[0].shared_fcs[-1].out_features, "roi_head.bbox_head[0].shared_fcs[-1].out_features"
    yield "heads.fully_connected_layers", len(heads[0].shared_fcs), "len(roi_head.bbox_head[0].shared_fcs)"
    align = extractors[0].roi_layers[0]
    yield "heads.pool_size", align.output_size[0], "roi_head.bbox_roi_extractor[0].roi_layers[0].output_size"
    yield "heads.sampling_ratio", align.sampling_ratio, "roi_head.bbox_roi_extractor[0].roi_layers[0].sampling_ratio"
    yield "heads.rois_per_image", sampler.num, "roi_head.bbox_sampler[0].num"
    yield "heads.positive_fraction", sampler.pos_fraction, "roi_head.bbox_sampler[0].pos_fraction"
    yield "heads.add_ground_truth", sampler.add_gt_as_proposals, "roi_head.bbox_sampler[0].add_gt_as_proposals"


def trunk_gradients(model: BaseModel) -> list[float]:
    """Probe the share of each stage's gradient that reaches the trunk.

    Backpropagates through a stage as it trains, and through its extractor and head alone; the ratio of the gradients at
    the feature map is the share.
    """
    shares = []
    for stage, (extractor, head) in enumerate(stage_modules(model.roi_head)):
        random = torch.Generator().manual_seed(0)
        channels = model.neck.out_channels
        maps = [torch.randn(1, channels, 32 // 2**level, 32 // 2**level, generator=random) for level in range(4)]
        rois = torch.tensor([[0.0, 8.0, 8.0, 100.0, 90.0], [0.0, 20.0, 30.0, 60.0, 50.0]])
        plain = [one.clone().requires_grad_() for one in maps]
        trained = [one.clone().requires_grad_() for one in maps]
        head(extractor(plain, rois))[0].square().sum().backward()
        is_cascade = isinstance(model.roi_head.bbox_head, nn.ModuleList)
        results = (
            model.roi_head._bbox_forward(stage, trained, rois)
            if is_cascade
            else model.roi_head._bbox_forward(trained, rois)
        )
        results["cls_score"].square().sum().backward()
        ratio = trained[0].grad.norm() / plain[0].grad.norm()
        shares.append(round(float(ratio), 5))
    return shares


def _inference(model: BaseModel, run: Run) -> Iterator[Row]:
    config = model.roi_head.test_cfg
    yield "inference.score_threshold", config.score_thr, "roi_head.test_cfg.score_thr"
    yield "inference.nms_iou", config.nms.iou_threshold, "roi_head.test_cfg.nms.iou_threshold"
    yield "inference.max_detections", config.max_per_img, "roi_head.test_cfg.max_per_img"
    yield "inference.score_rule", run.variant.headline, "run.variant.headline"
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    yield "model.trainable_parameters", trainable, "model.parameters() with requires_grad"
    yield "model.operators", operators_in_use(), "sys.modules['mmcv._ext']"
