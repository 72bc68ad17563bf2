"""Changes of what MMDetection built, each with the control that must show it."""

import adapters.mmdet  # noqa: F401 (before MMDetection: it provides mmcv's operators)

# isort: split
import copy
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import MethodType

import torch
from mmdet.datasets.transforms import FilterAnnotations
from mmdet.models.dense_heads import RPNHead
from mmdet.models.losses import CrossEntropyLoss, SmoothL1Loss
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmengine.hooks import EMAHook
from mutations import GROUP, IN_BOTH, Change, found, frozen, nudged, put
from torch import Tensor, nn
from torch.utils.data import DataLoader

from adapters.layers.convolution_branch import ConvolutionBranch
from adapters.mmdet.box_heads import StageBoxHead
from adapters.mmdet.stages import BoxesAndGroundTruth
from adapters.training.assembly import Built

# Schedule, optimizer and order of the images

RPN, ROI = "model.rpn_head", "model.roi_head"


def no_warmup(built):
    built.schedulers[0].start_factor = 1.0
    built.optimizer.param_groups[0]["lr"] = built.run.protocol.schedule.base_lr


def earlier_milestone(built):
    first, second = sorted(built.schedulers[-1].milestones)
    built.schedulers[-1].milestones = Counter([first - 1, second])


def longer_warmup(built):
    built.schedulers[0].total_iters += 1
    built.schedulers[0].end += 1


def another_optimizer(built):
    built.optimizer.optimizer = torch.optim.AdamW(built.model.parameters(), lr=built.optimizer.param_groups[0]["lr"])


def a_group_without_decay(built):
    optimizer = built.optimizer.optimizer
    moved = optimizer.param_groups[0]["params"].pop()
    optimizer.add_param_group({"params": [moved], "lr": optimizer.param_groups[0]["lr"], "weight_decay": 0.0})


def smaller_batches(built):
    built.engine.train_loop.dataloader = DataLoader(built.dataset, batch_size=1, sampler=built.loader.sampler)


def shuffled(built):
    built.engine.train_loop.dataloader = DataLoader(built.dataset, batch_size=built.loader.batch_size, shuffle=True)


TRAINING: list[tuple[str, Change]] = [
    ("schedule.iterations", put("engine.train_loop._max_iters", 601)),
    ("schedule.learning_rate_peak", put(f"{GROUP}.lr", 0.0004)),
    ("schedule.learning_rate_first", no_warmup),
    ("schedule.milestones", earlier_milestone),
    ("schedule.learning_rate_last", put("schedulers.1.gamma", 0.5)),
    ("schedule.warmup_iterations", longer_warmup),
    ("schedule.learning_rates_sha256", put("schedulers.0.start_factor", 0.02)),
    ("optimizer.name", another_optimizer),
    ("optimizer.parameter_groups", a_group_without_decay),
    ("optimizer.gradient_clip_norm", put("optimizer.clip_grad_kwargs", {"max_norm": 35.0})),
    ("optimizer.gradient_clip_norm", put("optimizer.clip_grad_kwargs", None)),
    ("training.precision", put("optimizer.optim_context", lambda model: torch.autocast("cpu", torch.bfloat16))),
    ("training.weight_averaging", lambda built: built.hooks.append(EMAHook())),
    ("training.batch_size", smaller_batches),
    ("training.order_sha256", shuffled),
    ("training.flips_sha256", put("dataset.reader.training_transforms.transforms.3.direction", "vertical")),
]

# From images to tensors


def tiny_boxes_dropped(built):
    built.dataset.reader.training_transforms.transforms.insert(3, FilterAnnotations(min_gt_bbox_wh=(1.0, 1.0)))


INPUT: list[tuple[str, Change]] = [
    ("input.pixel_mean", lambda built: built.model.data_preprocessor.mean.add_(1)),
    ("input.pixel_std", lambda built: built.model.data_preprocessor.std.fill_(1.0)),
    ("input.channel_order", put("model.data_preprocessor._channel_conversion", value=False)),
    ("input.normalized_pixel", put("model.data_preprocessor._enable_normalize", value=False)),
    ("input.size_divisor", put("model.data_preprocessor.pad_size_divisor", 16)),
    ("input.padding_value", put("model.data_preprocessor.pad_value", 0.5)),
    ("input.resize", put("dataset.reader.training_transforms.transforms.2.backend", "cv2")),
    ("input.resized_image_sha256", put("reader.test_transforms.transforms.1.interpolation", "bicubic")),
    ("input.resized_shapes", put("reader.test_transforms.transforms.1.keep_ratio", value=False)),
    ("input.test_short_side", put("reader.test_transforms.transforms.1.scale", (128, 96))),
    ("input.max_long_side", put("dataset.reader.training_transforms.transforms.2.scale", (160, 128))),
    ("input.ground_truth_boxes", tiny_boxes_dropped),
]

# Backbone and pyramid


def strided_in_1x1(built):
    first = built.model.backbone.layer2[0].conv1
    built.model.backbone.layer2[0].conv1 = nn.Conv2d(first.in_channels, first.out_channels, 1, 2, bias=False)


def one_frozen_norm(built):
    built.model.backbone.norm_eval = True
    built.model.backbone.layer1[0].bn1.weight.requires_grad_(False)


def average_pooling(built):
    forward = built.model.neck.forward
    built.model.neck.forward = lambda maps: (*(levels := forward(maps))[:-1], nn.functional.avg_pool2d(levels[-2], 2))


BACKBONE: list[tuple[str, Change]] = [
    ("backbone.blocks", lambda built: built.model.backbone.layer2.__delitem__(1)),
    ("backbone.stride_in_1x1", strided_in_1x1),
    ("backbone.frozen_parameters", frozen("backbone.conv1.weight")),
    ("backbone.batch_norm", put("model.backbone.norm_eval", value=True)),
    ("backbone.batch_norm", one_frozen_norm),
    ("weights.trunk_sha256", nudged("backbone.layer3.0.conv1.weight")),
    ("weights.first_head_sha256", nudged("roi_head.bbox_head.0.fc_cls.weight")),
    ("neck.top_down", put("model.neck.upsample_cfg", {"mode": "bilinear"})),
    ("neck.levels", put("model.neck.num_outs", 6)),
    ("neck.last_level", average_pooling),
    ("model.trainable_parameters", frozen("neck.lateral_convs.0.conv.weight")),
]

# Proposals


def turned_anchors(built):
    generator = built.model.rpn_head.prior_generator
    generator.base_anchors = [base[:, [1, 0, 3, 2]] for base in generator.base_anchors]


def native(method: str) -> Change:
    """Make a function that puts MMDetection's own method back into the proposal network."""
    return lambda built: setattr(
        built.model.rpn_head, method, MethodType(getattr(RPNHead, method), built.model.rpn_head)
    )


def clamped_elsewhere(path: str) -> Change:
    """Make a function that clamps a coder's deltas at another ratio."""
    return lambda built: setattr(
        found(built, path), "decode", partial(found(built, path).decode, wh_ratio_clip=1 / 1000)
    )


PROPOSALS: list[tuple[str, Change]] = [
    ("rpn.anchor_sides", lambda built: built.model.rpn_head.prior_generator.base_anchors[0].mul_(1.1)),
    ("rpn.anchor_aspect_ratios", turned_anchors),
    ("rpn.anchor_grid_sha256", lambda built: built.model.rpn_head.prior_generator.base_anchors[0].add_(2)),
    ("rpn.positive_iou", put(f"{RPN}.assigner.pos_iou_thr", 0.6)),
    ("rpn.negative_iou", put(f"{RPN}.assigner.neg_iou_thr", 0.4)),
    ("rpn.low_quality_matches", put(f"{RPN}.assigner.match_low_quality", value=False)),
    ("rpn.low_quality_floor", put(f"{RPN}.assigner.min_pos_iou", 0.3)),
    ("rpn.low_quality_ground_truth", put(f"{RPN}.assigner.__class__", MaxIoUAssigner)),
    ("rpn.anchors_per_image", put(f"{RPN}.sampler.num", 32)),
    ("rpn.positive_fraction", put(f"{RPN}.sampler.pos_fraction", 0.25)),
    ("rpn.loss_normalizer", native("get_targets")),
    ("rpn.padding_anchors", native("get_anchors")),
    ("rpn.border", put(f"{RPN}.train_cfg.allowed_border", 0)),
    ("rpn.train_pre_nms", put("model.train_cfg.rpn_proposal.nms_pre", 50)),
    ("rpn.train_post_nms", put("model.train_cfg.rpn_proposal.max_per_img", 50)),
    ("rpn.train_nms_iou", put("model.train_cfg.rpn_proposal.nms.iou_threshold", 0.8)),
    ("rpn.nms_iou", put(f"{RPN}.test_cfg.nms.iou_threshold", 0.8)),
    ("rpn.test_pre_nms", put(f"{RPN}.test_cfg.nms_pre", 50)),
    ("rpn.test_post_nms", put(f"{RPN}.test_cfg.max_per_img", 50)),
    ("rpn.min_box_side", put(f"{RPN}.test_cfg.min_bbox_size", 4)),
    ("rpn.regression_loss", put(f"{RPN}.loss_bbox", SmoothL1Loss(beta=1 / 9))),
    ("rpn.loss_weights", put(f"{RPN}.loss_bbox.loss_weight", 2.0)),
    ("rpn.target_stds", put(f"{RPN}.bbox_coder.stds", (0.1, 0.1, 0.2, 0.2))),
    ("rpn.delta_clamp", clamped_elsewhere(f"{RPN}.bbox_coder")),
]

# Heads and inference


def one_regressor_per_class(built):
    for head in built.model.roi_head.bbox_head:
        head.reg_class_agnostic = False
        head.fc_reg = nn.Linear(head.fc_reg.in_features, 4 * head.num_classes)


def boxes_divided_by_positives(built):
    head = built.model.roi_head.bbox_head[0]
    loss = head.loss

    def changed(scores, deltas, rois, labels, *others, **keywords):
        losses = loss(scores, deltas, rois, labels, *others, **keywords)
        losses["loss_bbox"] = losses["loss_bbox"] * len(labels) / (labels < head.num_classes).sum().clamp(min=1)
        return losses

    head.loss = changed


def a_narrow_layer(built):
    first, second = built.model.roi_head.bbox_head[0].shared_fcs
    narrow = nn.Linear(first.in_features, 64), nn.Linear(64, second.out_features)
    built.model.roi_head.bbox_head[0].shared_fcs = nn.ModuleList(narrow)


def a_stage_samples_again(built):
    """As MMDetection's own cascade does."""
    roi_head = built.model.roi_head
    roi_head.bbox_head[0].__class__ = StageBoxHead
    roi_head.bbox_sampler[1] = roi_head.bbox_sampler[0]


def boxes_moved_away(built):
    built.model.roi_head.bbox_head[0].fc_reg.bias.data[0].add_(10)


def branches_apart(built):
    head = built.model.roi_head.bbox_head[0]
    head.cls_fcs, head.reg_fcs = head.shared_fcs, copy.deepcopy(head.shared_fcs)
    head.shared_fcs, head.num_shared_fcs = nn.ModuleList(), 0


def convolutions_before_a_regressor(built):
    branches_apart(built)
    head = built.model.roi_head.bbox_head[0]
    head.reg_fcs = nn.ModuleList()
    head.regression_convolutions = ConvolutionBranch(head.in_channels, head.fc_out_channels)


def stages_replaced(forward: Callable[[nn.ModuleList, int, Tensor], tuple[Tensor, Tensor]]) -> Change:
    """Make a function that lets something else make logits and deltas of pooled RoIs."""

    def apply(built: Built) -> None:
        roi_head = built.model.roi_head
        roi_head.stage_forward = partial(forward, roi_head.bbox_head)

    return apply


def first_head_runs_too(heads, stage, pooled):
    heads[0].features(pooled)
    return heads[stage](pooled)


def classifier_borrows(heads, stage, pooled):
    features = heads[0].features(pooled)[0] + heads[stage].features(pooled)[0]
    return heads[stage].fc_cls(features), heads[stage](pooled)[1]


def regressor_reads_a_constant(heads, stage, pooled):
    classification, regression = heads[stage].features(pooled)
    return heads[stage].fc_cls(classification), heads[stage].fc_reg(regression.detach())


HEADS: list[tuple[str, Change]] = [
    ("heads.iou_threshold", put(f"{ROI}.bbox_assigner.2.pos_iou_thr", 0.75)),
    ("heads.target_means", put(f"{ROI}.bbox_head.1.bbox_coder.means", (0.0, 0.0, 0.1, 0.1))),
    ("heads.target_stds", put(f"{ROI}.bbox_head.2.bbox_coder.stds", (0.033, 0.033, 0.067, 0.067))),
    ("heads.delta_clamp", clamped_elsewhere(f"{ROI}.bbox_head.1.bbox_coder")),
    ("heads.regression", one_regressor_per_class),
    ("heads.classification_loss", put(f"{ROI}.bbox_head.0.loss_cls", CrossEntropyLoss(class_weight=[1.0] * 6))),
    ("heads.later_ground_truth", put(f"{ROI}.bbox_sampler.1", BoxesAndGroundTruth())),
    ("heads.later_ground_truth", put(f"{ROI}.bbox_head.0.drops_ground_truth", value=True)),
    ("heads.regression_loss", put(f"{ROI}.bbox_head.2.loss_bbox", SmoothL1Loss(beta=1.0))),
    ("heads.stages", put(f"{ROI}.applications", 2)),
    ("heads.classifiers", put(f"{ROI}.bbox_head.2.with_cls", value=False)),
    ("heads.classification_loss_weight", put(f"{ROI}.bbox_head.1.loss_cls.loss_weight", 0.5)),
    ("heads.classification_loss_weight", put(f"{ROI}.stage_loss_weights", [1.0, 0.5, 0.25])),
    ("heads.regression_loss_weight", put(f"{ROI}.bbox_head.0.loss_bbox.loss_weight", 2.0)),
    ("heads.regression_loss_weight", put(f"{ROI}.stage_loss_weights", [1.0, 0.5, 0.25])),
    ("heads.task_branches", branches_apart),
    ("heads.regression_branch", convolutions_before_a_regressor),
    ("heads.trunks_run", stages_replaced(first_head_runs_too)),
    ("heads.classifier_trains", stages_replaced(classifier_borrows)),
    ("heads.regressor_trains", stages_replaced(regressor_reads_a_constant)),
    ("heads.loss_normalizer", boxes_divided_by_positives),
    ("heads.trunk_gradient", put(f"{ROI}.trunk_gradient", [1.0, 1.0, 1.0])),
    ("heads.fully_connected_layers", lambda built: built.model.roi_head.bbox_head[1].shared_fcs.__delitem__(1)),
    ("heads.width", a_narrow_layer),
    ("heads.sampling_ratio", put(f"{ROI}.bbox_roi_extractor.0.roi_layers.0.sampling_ratio", 2)),
    ("heads.pooling_aligned", put(f"{ROI}.bbox_roi_extractor.1.roi_layers.0.aligned", value=False)),
    ("heads.level_map_sha256", put(f"{ROI}.bbox_roi_extractor.0.finest_scale", 28)),
    ("heads.rois_per_image", put(f"{ROI}.bbox_sampler.0.num", 128)),
    ("heads.positive_fraction", put(f"{ROI}.bbox_sampler.0.pos_fraction", 0.5)),
    ("heads.add_ground_truth", put(f"{ROI}.bbox_sampler.0.add_gt_as_proposals", value=False)),
    ("heads.rois_entering", put(f"{ROI}.bbox_head.0.__class__", StageBoxHead)),
    ("heads.rois_entering", a_stage_samples_again),
    ("heads.regression_rois_entering", a_stage_samples_again),
    ("heads.positives_entering", boxes_moved_away),
    ("heads.regression_positives_entering", boxes_moved_away),
]

INFERENCE: list[tuple[str, Change]] = [
    ("inference.score_threshold", put("model.test_cfg.rcnn.score_thr", 0.001)),
    ("inference.nms_iou", put("model.test_cfg.rcnn.nms.iou_threshold", 0.6)),
    ("inference.nms_classwise", put("model.test_cfg.rcnn.nms.class_agnostic", value=True)),
    ("inference.max_detections", put("model.test_cfg.rcnn.max_per_img", 300)),
]

MUTATIONS: list[tuple[str, Change]] = [*IN_BOTH, *TRAINING, *INPUT, *BACKBONE, *PROPOSALS, *HEADS, *INFERENCE]
