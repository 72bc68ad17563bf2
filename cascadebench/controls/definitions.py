"""Every control, defined once. ``docs/controlled-variables.md`` is generated from here."""

from cascadebench.backbone import Backbone
from cascadebench.cascade import stage_iou_thresholds, stage_target_stds, stage_weights
from cascadebench.controls.definition import ControlDefinition as Control
from cascadebench.image_size import resized_shape
from cascadebench.run import Run

ODD_SIZES = ((500, 333), (333, 500), (640, 427), (97, 101))
"""Width and height of the images whose resized sizes are probed, in pixels."""


def _stage_weights(run: Run) -> list[float]:
    return stage_weights(run.variant.options.get("stage_loss", "decay"), run.variant.stages)


def _target_stds(run: Run) -> list[list[float]]:
    return [list(stds) for stds in stage_target_stds(run.protocol.heads.target_stds, run.variant.stages)]


def _blocks(backbone: Backbone) -> list[int]:
    return {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}[backbone.depth]


def _channels(backbone: Backbone) -> list[int]:
    return [backbone.base_channels * (4 if backbone.depth >= 50 else 1) * 2**stage for stage in range(4)]


def _resized_shapes(run: Run) -> list[list[int]]:
    sizes = run.protocol.input
    return [list(resized_shape(*size, sizes.test_short_side, sizes.max_long_side)) for size in ODD_SIZES]


def _normalized_pixel(run: Run) -> list[float]:
    """Red 200, green 100, blue 50 as the model sees them."""
    pixel = (200, 100, 50) if run.backbone.channel_order == "rgb" else (50, 100, 200)
    triples = zip(pixel, run.backbone.pixel_mean, run.backbone.pixel_std, strict=True)
    return [round((value - mean) / std, 4) for value, mean, std in triples]


SCHEDULE = (
    Control(
        "schedule.iterations", "Optimizer steps.", "iterations", expected=lambda run: run.protocol.schedule.iterations
    ),
    Control(
        "schedule.learning_rate_first", "Learning rate of the first step.", expected=lambda run: run.learning_rate(0)
    ),
    Control(
        "schedule.learning_rate_peak", "Greatest learning rate.", expected=lambda run: run.protocol.schedule.base_lr
    ),
    Control(
        "schedule.learning_rate_last",
        "Learning rate of the last step.",
        expected=lambda run: run.learning_rate(run.protocol.schedule.iterations - 1),
    ),
    Control(
        "schedule.warmup_iterations",
        "First step at the full rate.",
        "iterations",
        expected=lambda run: run.protocol.schedule.warmup_iterations,
    ),
    Control(
        "schedule.milestones",
        "Steps at which the rate drops.",
        "iterations",
        expected=lambda run: list(run.protocol.schedule.steps),
    ),
    Control("schedule.learning_rates_sha256", "Hash of the rate of every step, to nine digits.", kind="equal"),
)

OPTIMIZER = (
    Control("optimizer.name", "Optimizer.", expected=lambda run: run.protocol.optimizer.name),
    Control("optimizer.momentum", "Momentum.", expected=lambda run: run.protocol.optimizer.momentum),
    Control(
        "optimizer.weight_decay",
        "Weight decay of all parameters.",
        expected=lambda run: run.protocol.optimizer.weight_decay,
    ),
    Control("optimizer.nesterov", "Whether momentum is Nesterov's.", expected=lambda run: False),
    Control(
        "optimizer.parameter_groups",
        "Number of different settings among the parameters, norm and bias included.",
        expected=lambda run: 1,
    ),
    Control(
        "optimizer.parameters_covered",
        "Whether every parameter that learns belongs to the optimizer exactly once.",
        expected=lambda run: True,
    ),
    Control(
        "optimizer.gradient_clip_norm",
        "L2 norm to which the whole gradient is clipped.",
        expected=lambda run: run.protocol.optimizer.gradient_clip_norm,
    ),
    Control("training.precision", "Number format of the forward pass.", expected=lambda run: "float32"),
    Control("training.weight_averaging", "Averaging of weights over steps.", expected=lambda run: "none"),
    Control(
        "training.batch_size",
        "Images of a step over all processes.",
        "images",
        expected=lambda run: run.protocol.schedule.batch_size,
    ),
    Control(
        "training.order_sha256",
        "Hash of the first 1,000 images that the loader reads, over a fixed list of images.",
        kind="equal",
        per_seed=True,
    ),
    Control("training.flips_sha256", "Hash of which of those are mirrored.", kind="equal", per_seed=True),
    Control(
        "training.step_seeds_sha256", "Hash of the random state in the first 100 steps.", kind="equal", per_seed=True
    ),
)

INPUT = (
    Control("input.pixel_mean", "Subtracted from the pixels.", expected=lambda run: list(run.backbone.pixel_mean)),
    Control("input.pixel_std", "Divides the pixels.", expected=lambda run: list(run.backbone.pixel_std)),
    Control("input.channel_order", "Order of the colour channels.", expected=lambda run: run.backbone.channel_order),
    Control(
        "input.normalized_pixel",
        "Probe: a pixel of red 200, green 100, blue 50 as the model sees it.",
        expected=_normalized_pixel,
    ),
    Control(
        "input.size_divisor",
        "Batches are padded to a multiple of this.",
        "pixels",
        expected=lambda run: run.protocol.input.size_divisor,
    ),
    Control("input.padding_value", "Probe: value of padding after normalisation.", expected=lambda run: 0.0),
    Control("input.resize", "Library and filter that resize.", expected=lambda run: "pillow_bilinear"),
    Control(
        "input.resized_image_sha256", "Probe: hash of a fixed image as it is resized for testing, RGB.", kind="equal"
    ),
    Control("input.resized_shapes", "Probe: sizes of odd images after resizing.", "pixels", expected=_resized_shapes),
    Control(
        "input.train_short_sides",
        "Shorter sides in training.",
        "pixels",
        expected=lambda run: sorted(run.protocol.input.train_short_sides),
    ),
    Control(
        "input.test_short_side",
        "Shorter side in testing.",
        "pixels",
        expected=lambda run: run.protocol.input.test_short_side,
    ),
    Control(
        "input.max_long_side", "Greatest longer side.", "pixels", expected=lambda run: run.protocol.input.max_long_side
    ),
    Control(
        "input.ground_truth_boxes",
        "Probe: ground-truth boxes that are left of a fixed image's, among them tiny ones.",
        kind="equal",
    ),
)

BACKBONE = (
    Control("backbone.blocks", "Residual blocks per stage.", expected=lambda run: _blocks(run.backbone)),
    Control("backbone.channels", "Output channels per stage.", expected=lambda run: _channels(run.backbone)),
    Control(
        "backbone.stride_in_1x1",
        "Whether a bottleneck strides in its first 1x1 convolution.",
        expected=lambda run: run.backbone.stride_in_1x1,
    ),
    Control("backbone.frozen_parameters", "Backbone parameters that do not learn.", kind="equal"),
    Control("backbone.batch_norm", "What batch norm learns.", expected=lambda run: run.protocol.backbone.batch_norm),
    Control(
        "backbone.weights_sha256",
        "Checksum of the file of backbone weights.",
        expected=lambda run: run.backbone.weights.sha256 if run.backbone.weights else None,
    ),
    Control(
        "weights.trunk_sha256", "Hash of the initial weights of backbone, neck and RPN.", kind="equal", per_seed=True
    ),
    Control("weights.first_head_sha256", "Hash of the first head's initial weights.", kind="equal", per_seed=True),
    Control("neck.channels", "Channels of every pyramid level.", expected=lambda run: run.protocol.neck.channels),
    Control("neck.levels", "Pyramid levels.", expected=lambda run: 5),
    Control(
        "neck.last_level", "Probe: how the coarsest level comes from the one before.", expected=lambda run: "max_pool"
    ),
    Control("neck.top_down", "Probe: how a coarser level is enlarged.", expected=lambda run: "nearest"),
)

RPN = (
    Control(
        "rpn.anchor_sides",
        "Square root of an anchor's area, per level.",
        "pixels",
        expected=lambda run: [run.protocol.rpn.anchors.scale * stride for stride in (4, 8, 16, 32, 64)],
    ),
    Control(
        "rpn.anchor_aspect_ratios",
        "Height over width.",
        expected=lambda run: list(run.protocol.rpn.anchors.aspect_ratios),
    ),
    Control("rpn.anchor_grid_sha256", "Probe: hash of all anchors of a 96 x 64 image.", kind="equal"),
    Control(
        "rpn.positive_iou", "IoU from which an anchor is positive.", expected=lambda run: run.protocol.rpn.positive_iou
    ),
    Control("rpn.negative_iou", "IoU below which it is negative.", expected=lambda run: run.protocol.rpn.negative_iou),
    Control(
        "rpn.low_quality_matches", "Whether a ground truth's best anchors are positive.", expected=lambda run: True
    ),
    Control("rpn.low_quality_floor", "Probe: least IoU of such an anchor.", expected=lambda run: 0.0),
    Control(
        "rpn.low_quality_ground_truth",
        "Probe: which ground truth such an anchor regresses to.",
        expected=lambda run: "its best",
    ),
    Control(
        "rpn.anchors_per_image", "Anchors sampled per image.", expected=lambda run: run.protocol.rpn.anchors_per_image
    ),
    Control(
        "rpn.positive_fraction", "Greatest share of positives.", expected=lambda run: run.protocol.rpn.positive_fraction
    ),
    Control(
        "rpn.loss_normalizer", "Probe: what divides the RPN losses.", expected=lambda run: "anchors_per_image x images"
    ),
    Control(
        "rpn.train_pre_nms",
        "Proposals per level before NMS in training.",
        expected=lambda run: run.protocol.rpn.train_pre_nms,
    ),
    Control("rpn.test_pre_nms", "The same in testing.", expected=lambda run: run.protocol.rpn.test_pre_nms),
    Control(
        "rpn.train_post_nms", "Proposals after NMS in training.", expected=lambda run: run.protocol.rpn.train_post_nms
    ),
    Control("rpn.test_post_nms", "The same in testing.", expected=lambda run: run.protocol.rpn.test_post_nms),
    Control("rpn.nms_iou", "IoU of the RPN's NMS.", expected=lambda run: run.protocol.rpn.nms_iou),
    Control("rpn.min_box_side", "Proposals must be larger than this.", "pixels", expected=lambda run: 0.0),
    Control("rpn.border", "Border beyond which anchors take no part; -1: none.", "pixels", expected=lambda run: -1),
    Control("rpn.padding_anchors", "Probe: whether anchors in a batch's padding take part.", expected=lambda run: True),
    Control("rpn.regression_loss", "Regression loss.", expected=lambda run: "l1"),
    Control("rpn.loss_weights", "Weights of classification and regression.", expected=lambda run: [1.0, 1.0]),
    Control("rpn.target_stds", "Standard deviations of the targets.", expected=lambda run: [1.0] * 4),
    Control(
        "rpn.delta_clamp",
        "Probe: least and greatest factor on a side.",
        expected=lambda run: [0.016, 62.5],
    ),
)

HEADS = (
    Control("heads.stages", "Number of heads.", expected=lambda run: run.variant.stages),
    Control(
        "heads.iou_threshold",
        "IoU from which a RoI is positive, per stage.",
        expected=lambda run: stage_iou_thresholds(run.protocol.heads.iou_threshold, run.variant.stages),
    ),
    Control(
        "heads.target_means",
        "Means of the regression targets, per stage.",
        expected=lambda run: [[0.0] * 4] * run.variant.stages,
    ),
    Control("heads.target_stds", "Standard deviations of the regression targets, per stage.", expected=_target_stds),
    Control(
        "heads.delta_clamp",
        "Probe: least and greatest factor on a side, per stage.",
        expected=lambda run: [[0.016, 62.5]] * run.variant.stages,
    ),
    Control(
        "heads.regression",
        "One regressor for all classes or one per class.",
        expected=lambda run: run.variant.options.get("regression", "class_agnostic"),
    ),
    Control("heads.classification_loss", "Classification loss.", expected=lambda run: "cross_entropy"),
    Control("heads.regression_loss", "Regression loss.", expected=lambda run: "l1"),
    Control(
        "heads.loss_weight",
        "Weight of each stage's losses in its head's gradient.",
        expected=lambda run: [1.0] * run.variant.stages,
    ),
    Control("heads.loss_normalizer", "Probe: what divides both losses of a stage.", expected=lambda run: "RoIs"),
    Control(
        "heads.trunk_gradient", "Probe: share of each stage's gradient that reaches the trunk.", expected=_stage_weights
    ),
    Control("heads.width", "Outputs of a fully connected layer.", expected=lambda run: run.protocol.heads.width),
    Control("heads.fully_connected_layers", "Fully connected layers of a head.", expected=lambda run: 2),
    Control("heads.pool_size", "Side of a pooled RoI.", expected=lambda run: run.protocol.heads.pool_size),
    Control(
        "heads.sampling_ratio", "RoIAlign samples per bin side.", expected=lambda run: run.protocol.heads.sampling_ratio
    ),
    Control("heads.pooling_aligned", "Whether RoIAlign shifts by half a pixel.", expected=lambda run: True),
    Control(
        "heads.level_map_sha256", "Probe: hash of the pyramid levels that fixed boxes are pooled from.", kind="equal"
    ),
    Control(
        "heads.rois_per_image",
        "RoIs sampled for the first stage.",
        expected=lambda run: run.protocol.heads.rois_per_image,
    ),
    Control(
        "heads.positive_fraction",
        "Greatest share of positives among them.",
        expected=lambda run: run.protocol.heads.positive_fraction,
    ),
    Control(
        "heads.add_ground_truth",
        "Whether ground truth joins them.",
        expected=lambda run: run.protocol.heads.add_ground_truth,
    ),
    Control("heads.rois_entering", "Probe: RoIs that train each stage on a fixed batch.", kind="equal"),
    Control("heads.positives_entering", "Probe: positives among them.", kind="equal"),
)

INFERENCE = (
    Control(
        "inference.score_threshold",
        "Detections score above this.",
        expected=lambda run: run.protocol.inference.score_threshold,
    ),
    Control("inference.nms_iou", "IoU of the final NMS.", expected=lambda run: run.protocol.inference.nms_iou),
    Control("inference.nms_classwise", "Probe: whether classes are suppressed apart.", expected=lambda run: True),
    Control(
        "inference.max_detections", "Detections per image.", expected=lambda run: run.protocol.inference.max_detections
    ),
    Control(
        "inference.score_rule", "Test stage that stands for the variant.", expected=lambda run: run.variant.headline
    ),
)

MODEL = (
    Control("model.trainable_parameters", "Parameters that learn.", kind="equal"),
    Control(
        "model.operators",
        "What serves NMS and RoIAlign.",
        kind="framework",
        reason="Each framework calls the operators that its installation has; the stand-ins give the same numbers.",
    ),
)

CONTROLS: dict[str, Control] = {
    control.name: control
    for group in (SCHEDULE, OPTIMIZER, INPUT, BACKBONE, RPN, HEADS, INFERENCE, MODEL)
    for control in group
}
