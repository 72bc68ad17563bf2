"""Changes of what Detectron2 built, each with the control that must show it."""

import copy
from functools import partial
from typing import Any

import torch
from detectron2.data import transforms as T
from detectron2.engine import AMPTrainer, HookBase
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from mutations import GROUP, IN_BOTH, Change, frozen, nudged, put
from PIL import Image
from torch import nn
from torchvision.ops import nms

from adapters.detectron2.box_heads import TaskBranches
from adapters.detectron2.config import FixedStatisticsBatchNorm2d
from adapters.detectron2.sampling import TwoListRPN
from adapters.detectron2.training import SessionTrainer
from adapters.layers.convolution_branch import ConvolutionBranch
from adapters.training.assembly import Built

RPN, HEADS = "model.proposal_generator", "model.roi_heads"
FIRST, SECOND, LAST = (f"{HEADS}.box_predictor.{stage}" for stage in range(3))
WARMUP, STEPS = "schedulers.0._multiplier", "schedulers.0._multiplier._schedulers.1"


# Optimizer and order


def extra_group(built: Built) -> None:
    group = built.optimizer.param_groups[0]
    built.optimizer.param_groups.append(group | {"params": [group["params"].pop()], "weight_decay": 0.0})
    built.schedulers[0].base_lrs.append(group["initial_lr"])


def another_optimizer(built: Built) -> None:
    built.engine.optimizer = torch.optim.AdamW(built.model.parameters(), lr=0.02)


def shuffled(built: Built) -> None:
    built.loader.batch_sampler.sampler = torch.utils.data.RandomSampler(built.dataset)


def mixed_precision(built: Built) -> None:
    built.engine.__class__ = type("MixedTrainer", (SessionTrainer, AMPTrainer), {})


class ExponentialAverage(HookBase):
    pass


# Input


def nearest(built: Built) -> None:
    plain = built.reader.resize
    built.reader.resize = lambda *size: replaced(plain(*size), interp=Image.NEAREST)


def one_pixel_wider(built: Built) -> None:
    plain = built.reader.resize
    built.reader.resize = lambda *size: replaced(plain(*size), new_w=plain(*size).new_w + 1)


def replaced(resize: T.ResizeTransform, **changes: int) -> T.ResizeTransform:
    for name, value in changes.items():
        setattr(resize, name, value)
    return resize


def darker(built: Built) -> None:
    plain = built.reader.read
    built.reader.read = lambda record: plain(record) - plain(record) // 50


def grey_padding(built: Built) -> None:
    plain = built.model.preprocess_image

    def padded(images: list[dict]) -> Any:
        made = plain(images)
        for tensor, (height, width) in zip(made.tensor, made.image_sizes, strict=True):
            tensor[:, height:] = tensor[:, :, width:] = 0.5
        return made

    built.model.preprocess_image = padded


def divided_pixels(built: Built) -> None:
    plain = built.model.preprocess_image
    built.model.preprocess_image = lambda images: plain([one | {"image": one["image"] / 255} for one in images])


def no_tiny_boxes(built: Built) -> None:
    plain = built.dataset.reader.training_image

    def filtered(*given: Any, **named: Any) -> dict:
        made = plain(*given, **named)
        boxes = made["instances"].gt_boxes
        return made | {"instances": made["instances"][boxes.nonempty(threshold=1.0)]}

    built.dataset.reader.training_image = filtered


# Backbone, neck and weights


def one_norm_fixed(built: Built) -> None:
    convolution = built.model.backbone.bottom_up.res4[0].conv1
    convolution.norm = FixedStatisticsBatchNorm2d(convolution.norm.num_features)


def shorter_stage(built: Built) -> None:
    backbone = built.model.backbone.bottom_up
    backbone.stages[2] = backbone.res4 = backbone.res4[:-1]


def blurred_top(built: Built) -> None:
    built.model.backbone.top_block.forward = lambda x: [torch.nn.functional.avg_pool2d(x, 2)]


def four_levels(built: Built) -> None:
    built.model.backbone.top_block = None
    built.model.backbone._out_features = built.model.backbone._out_features[:4]


# RPN


@torch.no_grad()
def wider_anchors(built: Built) -> None:
    for cell in built.model.proposal_generator.anchor_generator.cell_anchors:
        cell *= torch.tensor([2.0, 0.5, 2.0, 0.5])


class FlooredMatcher(Matcher):
    """Leaves ground truth whose best IoU is below 0.3."""

    def set_low_quality_matches_(self, match_labels: torch.Tensor, match_quality_matrix: torch.Tensor) -> None:
        good = match_quality_matrix.max(1).values >= 0.3
        super().set_low_quality_matches_(match_labels, match_quality_matrix[good])


class OverwritingMatcher(Matcher):
    """Gives a ground truth's best anchor to it, whatever that anchor overlaps more."""

    def __call__(self, match_quality_matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        matches, labels = super().__call__(match_quality_matrix)
        matches[match_quality_matrix.argmax(1)] = torch.arange(len(match_quality_matrix))
        return matches, labels


def change_matcher(kind: type, built: Built) -> None:
    built.model.proposal_generator.anchor_matcher.__class__ = kind


def ignored_padding(built: Built) -> None:
    rpn = built.model.proposal_generator
    plain = rpn.label_and_sample_anchors

    def without_padding(anchors: list[Boxes], targets: list[Instances]) -> tuple:
        labels, boxes = plain(anchors, targets)
        centers = Boxes.cat(anchors).get_centers()
        for label, target in zip(labels, targets, strict=True):
            label[(centers > torch.tensor(target.image_size[::-1])).any(1)] = -1
        return labels, boxes

    rpn.label_and_sample_anchors = without_padding


def by_sampled_anchors(built: Built) -> None:
    rpn = built.model.proposal_generator
    plain = rpn.losses

    def losses(anchors: list, logits: list, labels: list, *more: Any) -> dict:
        share = rpn.batch_size_per_image * len(labels) / sum(int((label >= 0).sum()) for label in labels)
        return {name: value * share for name, value in plain(anchors, logits, labels, *more).items()}

    rpn.losses = losses


# Heads


def class_specific(built: Built) -> None:
    for predictor in built.model.roi_heads.box_predictor:
        predictor.bbox_pred = nn.Linear(predictor.bbox_pred.in_features, 4 * predictor.num_classes)
        predictor.predict_boxes = partial(_boxes_of_first_class, predictor)


def _boxes_of_first_class(predictor: FastRCNNOutputLayers, predictions: tuple, proposals: list) -> list:
    # A cascade needs one box per RoI.
    return FastRCNNOutputLayers.predict_boxes(predictor, (predictions[0], predictions[1][:, :4]), proposals)


def wider_layer(built: Built) -> None:
    head = built.model.roi_heads.box_head[1]
    head.fc1 = nn.Linear(head.fc1.in_features, 2 * head.fc1.out_features)
    head.fc2 = nn.Linear(head.fc1.out_features, head.fc2.out_features)


def third_layer(built: Built) -> None:
    head = built.model.roi_heads.box_head[2]
    head.add_module("fc3", nn.Linear(head.fc2.out_features, head.fc2.out_features))


def regression_by_positives(built: Built) -> None:
    predictor = built.model.roi_heads.box_predictor[1]
    plain = predictor.box_reg_loss

    def loss(proposals: Any, targets: Any, deltas: Any, classes: torch.Tensor) -> torch.Tensor:
        positive = (classes < predictor.num_classes).sum().clamp(min=1)
        return plain(proposals, targets, deltas, classes) * len(classes) / positive

    predictor.box_reg_loss = loss


def focal_classification(built: Built) -> None:
    predictor = built.model.roi_heads.box_predictor[0]
    predictor.losses = lambda predictions, proposals: FastRCNNOutputLayers.losses(
        predictor, (predictions[0] / 2, predictions[1]), proposals
    )


def resampled_stage(built: Built) -> None:
    heads = built.model.roi_heads
    plain = heads._create_proposals_from_boxes
    heads._create_proposals_from_boxes = lambda boxes, sizes: [one[: len(one) // 2] for one in plain(boxes, sizes)]


def fewer_positives(built: Built) -> None:
    heads = built.model.roi_heads
    plain = heads._match_and_label_boxes

    def labelled(proposals: list[Instances], stage: int, targets: list[Instances]) -> list[Instances]:
        made = plain(proposals, stage, targets)
        for one in made:
            one.gt_classes[0] = one.gt_classes[one.gt_classes < heads.num_classes] = heads.num_classes
        return made

    heads._match_and_label_boxes = labelled


def two_branches(built: Built) -> None:
    heads = built.model.roi_heads
    heads.box_head[0] = TaskBranches(heads.box_head[0], copy.deepcopy(heads.box_head[0]))


def convolutions(built: Built) -> None:
    heads = built.model.roi_heads
    layers = heads.box_head[1]
    channels = built.model.backbone.output_shape()["p2"].channels
    heads.box_head[1] = TaskBranches(layers, ConvolutionBranch(channels, layers.fc2.out_features))


def borrowed_layers(built: Built) -> None:
    heads = built.model.roi_heads
    plain = heads.stage_forward

    def forward(stage: int, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if stage == 2:
            heads.box_head[0](pooled)
        return plain(stage, pooled)

    heads.stage_forward = forward


def constant_features(output: str, built: Built) -> None:
    layer = getattr(built.model.roi_heads.box_predictor[1], output)
    layer.register_forward_pre_hook(lambda _layer, inputs: (inputs[0].detach(),))


def one_classifier_less(built: Built) -> None:
    predictor = built.model.roi_heads.box_predictor[2]
    predictor.classifies, predictor.cls_score = False, None


def two_lists(built: Built) -> None:
    built.model.proposal_generator.__class__ = TwoListRPN
    built.model.proposal_generator.train_nms_thresh = [0.7, 0.85]


def shifted_targets(built: Built) -> None:
    transform = built.model.roi_heads.box_predictor[0].box2box_transform
    plain = transform.get_deltas
    transform.get_deltas = lambda boxes, targets: plain(boxes, targets) - 0.1


def two_stages(built: Built) -> None:
    heads = built.model.roi_heads
    heads.num_cascade_stages = 2
    for stages in (heads.box_head, heads.box_predictor, heads.proposal_matchers, heads.trunk_gradient):
        del stages[2]


def nms_over_classes(built: Built) -> None:
    heads = built.model.roi_heads
    plain = heads.detect

    def detect(stage: int, boxes: torch.Tensor, scores: torch.Tensor, size: tuple[int, int]) -> tuple:
        rows = plain(stage, boxes, scores, size)
        kept = nms(*rows[:2], heads.box_predictor[stage].test_nms_thresh)
        return tuple(part[kept] for part in rows)

    heads.detect = detect


MUTATIONS: list[tuple[str, Change]] = [
    *IN_BOTH,
    ("schedule.learning_rate_first", put(f"{GROUP}.lr", 0.5)),
    ("schedule.learning_rates_sha256", put(f"{WARMUP}._schedulers.0._start_value", 0.5)),
    ("schedule.learning_rate_peak", put("schedulers.0.base_lrs", [0.03])),
    ("schedule.learning_rate_last", put(f"{STEPS}._param_schedule.2", 0.05)),
    ("schedule.milestones", put(f"{STEPS}._milestones.0", 400)),
    ("schedule.warmup_iterations", put(f"{WARMUP}._lengths.0", 0.1)),
    ("schedule.iterations", put("session.iterations", 479)),
    ("schedule.learning_rates_sha256", put(f"{WARMUP}._schedulers.0._end_value", 0.99)),
    ("optimizer.name", another_optimizer),
    ("optimizer.parameter_groups", extra_group),
    ("optimizer.gradient_clip_norm", put("optimizer.gradient_clip_norm", 35.0)),
    ("training.precision", mixed_precision),
    ("training.weight_averaging", lambda built: built.engine.register_hooks([ExponentialAverage()])),
    ("training.batch_size", put("loader.batch_sampler.batch_size", 2)),
    ("training.order_sha256", shuffled),
    ("input.pixel_mean", lambda built: built.model.pixel_mean.mul_(1.01)),
    ("input.pixel_std", lambda built: built.model.pixel_std.fill_(1.0)),
    ("input.channel_order", put("reader.format", "BGR")),
    ("input.channel_order", put("dataset.reader.format", "BGR")),
    ("input.normalized_pixel", divided_pixels),
    ("input.size_divisor", put("model.backbone._size_divisibility", 64)),
    ("input.padding_value", grey_padding),
    ("input.resize", nearest),
    ("input.resized_image_sha256", darker),
    ("input.resized_shapes", one_pixel_wider),
    ("input.test_short_side", put("reader.test_short_side", 96)),
    ("input.max_long_side", put("reader.max_long_side", 160)),
    ("input.max_long_side", put("dataset.reader.max_long_side", 160)),
    ("input.ground_truth_boxes", no_tiny_boxes),
    ("backbone.blocks", shorter_stage),
    ("backbone.frozen_parameters", frozen("backbone.bottom_up.res3.0.conv1.weight")),
    ("backbone.batch_norm", one_norm_fixed),
    ("weights.trunk_sha256", nudged("backbone.fpn_lateral3.weight")),
    ("weights.trunk_sha256", nudged("proposal_generator.rpn_head.conv.weight")),
    ("weights.first_head_sha256", nudged("roi_heads.box_head.0.fc1.weight")),
    ("neck.channels", put("model.backbone._out_feature_channels.p3", 32)),
    ("neck.levels", four_levels),
    ("neck.last_level", blurred_top),
    ("neck.top_down", put("model.backbone._fuse_type", "avg")),
    ("rpn.anchor_sides", lambda built: list(built.model.proposal_generator.anchor_generator.cell_anchors)[-1].mul_(2)),
    ("rpn.anchor_aspect_ratios", wider_anchors),
    ("rpn.anchor_grid_sha256", put(f"{RPN}.anchor_generator.offset", 0.5)),
    ("rpn.positive_iou", put(f"{RPN}.anchor_matcher.thresholds.2", 0.6)),
    ("rpn.negative_iou", put(f"{RPN}.anchor_matcher.thresholds.1", 0.2)),
    ("rpn.low_quality_matches", put(f"{RPN}.anchor_matcher.allow_low_quality_matches", value=False)),
    ("rpn.low_quality_floor", partial(change_matcher, FlooredMatcher)),
    ("rpn.low_quality_ground_truth", partial(change_matcher, OverwritingMatcher)),
    ("rpn.anchors_per_image", put(f"{RPN}.batch_size_per_image", 128)),
    ("rpn.positive_fraction", put(f"{RPN}.positive_fraction", 0.25)),
    ("rpn.loss_normalizer", by_sampled_anchors),
    ("rpn.train_pre_nms", put(f"{RPN}.pre_nms_topk.True", 500)),
    ("rpn.test_pre_nms", put(f"{RPN}.pre_nms_topk.False", 500)),
    ("rpn.train_post_nms", put(f"{RPN}.post_nms_topk.True", 500)),
    ("rpn.test_post_nms", put(f"{RPN}.post_nms_topk.False", 500)),
    ("rpn.nms_iou", put(f"{RPN}.nms_thresh", 0.8)),
    ("rpn.train_nms_iou", put(f"{RPN}.nms_thresh", 0.8)),
    ("rpn.train_nms_iou", two_lists),
    ("rpn.min_box_side", put(f"{RPN}.min_box_size", 4.0)),
    ("rpn.border", put(f"{RPN}.anchor_boundary_thresh", 0)),
    ("rpn.padding_anchors", ignored_padding),
    ("rpn.regression_loss", put(f"{RPN}.smooth_l1_beta", 0.11)),
    ("rpn.loss_weights", put(f"{RPN}.loss_weight.loss_rpn_loc", 2.0)),
    ("rpn.target_stds", put(f"{RPN}.box2box_transform.weights", [2.0] * 4)),
    ("rpn.delta_clamp", put(f"{RPN}.box2box_transform", Box2BoxTransform(weights=(1.0,) * 4))),
    ("heads.stages", two_stages),
    ("heads.classifiers", one_classifier_less),
    ("heads.target_means", shifted_targets),
    ("heads.iou_threshold", put(f"{HEADS}.proposal_matchers.2.thresholds.1", 0.65)),
    ("heads.iou_threshold", put(f"{HEADS}.proposal_matcher", Matcher([0.4], [0, 1]))),
    ("heads.target_stds", put(f"{SECOND}.box2box_transform.weights", [10.0, 10.0, 5.0, 5.0])),
    ("heads.delta_clamp", put(f"{LAST}.box2box_transform.scale_clamp", 2.0)),
    ("heads.regression", class_specific),
    ("heads.classification_loss", put(f"{FIRST}.use_sigmoid_ce", value=True)),
    ("heads.classification_loss", focal_classification),
    ("heads.later_ground_truth", put("model.roi_heads.later_ground_truth", value=True)),
    ("heads.later_ground_truth", put("model.roi_heads.box_predictor.0.drops_ground_truth", value=True)),
    ("heads.regression_loss", put(f"{LAST}.smooth_l1_beta", 1.0)),
    ("heads.classification_loss_weight", put(f"{SECOND}.loss_weight.loss_cls", 0.5)),
    ("heads.regression_loss_weight", put(f"{LAST}.loss_weight.loss_box_reg", 0.25)),
    ("heads.loss_normalizer", regression_by_positives),
    ("heads.trunk_gradient", put(f"{HEADS}.trunk_gradient.1", 1.0)),
    ("heads.task_branches", two_branches),
    ("heads.regression_branch", convolutions),
    ("heads.trunks_run", borrowed_layers),
    ("heads.classifier_trains", partial(constant_features, "cls_score")),
    ("heads.regressor_trains", partial(constant_features, "bbox_pred")),
    ("heads.width", wider_layer),
    ("heads.fully_connected_layers", third_layer),
    ("heads.sampling_ratio", put(f"{HEADS}.box_pooler.level_poolers.0.sampling_ratio", 2)),
    ("heads.pooling_aligned", put(f"{HEADS}.box_pooler.level_poolers.3.aligned", value=False)),
    ("heads.level_map_sha256", put(f"{HEADS}.box_pooler.canonical_box_size", 112)),
    ("heads.rois_per_image", put(f"{HEADS}.batch_size_per_image", 128)),
    ("heads.positive_fraction", put(f"{HEADS}.positive_fraction", 0.5)),
    ("heads.add_ground_truth", put(f"{HEADS}.proposal_append_gt", value=False)),
    ("heads.rois_entering", resampled_stage),
    ("heads.positives_entering", fewer_positives),
    ("heads.regression_rois_entering", resampled_stage),
    ("heads.regression_positives_entering", fewer_positives),
    ("inference.score_threshold", put(f"{LAST}.test_score_thresh", 0.001)),
    ("inference.nms_iou", put(f"{LAST}.test_nms_thresh", 0.6)),
    ("inference.max_detections", put(f"{FIRST}.test_topk_per_image", 300)),
    ("inference.nms_classwise", nms_over_classes),
    ("model.trainable_parameters", frozen("proposal_generator.rpn_head.conv.bias")),
]
