"""Controls of the model: backbone and pyramid, region proposal network, heads, mask branches, inference."""

from collections.abc import Callable
from typing import Any

from cascadebench.controls.control_definition import ControlDefinition, constant, derived, equal, stated
from cascadebench.study.protocol import regression_loss_name
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import StageSettings, mask_stages, stage_settings

SIDE_FACTORS = [0.016, 62.5]
"""Least and greatest factor on a box's side, 16 / 1000 and 1000 / 16."""
MASK_POOL_SIZE = 14


def _batch_norm(run: Run) -> str:
    return "none" if run.backbone.norm == "group" else run.protocol.backbone.batch_norm


def _neck_norm(run: Run) -> str:
    return "group" if run.backbone.norm == "group" else "none"


def _anchor_sides(run: Run) -> list[float]:
    return [run.protocol.rpn.anchors.scale * stride for stride in (4, 8, 16, 32, 64)]


def _regressors(run: Run) -> list[StageSettings]:
    return [stage for stage in stage_settings(run) if stage.has_regressor]


def _per_stage(name: str) -> Callable[[Run], list[Any]]:
    """Expect one of the stages' settings, null where the stage has no such part."""
    return lambda run: [getattr(stage, name) for stage in stage_settings(run)]


def _target_stds(run: Run) -> list[list[float]]:
    return [list(stage.target_stds) for stage in _regressors(run)]


def _regression(run: Run) -> list[str]:
    return ["class_agnostic" if stage.class_agnostic else "class_specific" for stage in _regressors(run)]


def _moved_by(run: Run) -> str:
    first, *later = _regressors(run)
    return run.variant.options.get("moved_by", "predicted_class") if later and not first.class_agnostic else "none"


def _train_nms(run: Run) -> list[float]:
    """NMS of the proposals that train: one list, or one for classification and one for regression."""
    everywhere, options = run.protocol.rpn.nms_iou, run.variant.options
    given = [options.get("nms_cls"), options.get("nms_reg")]
    return [everywhere] if given == [None, None] else [everywhere if one is None else one for one in given]


def _own_and_earlier(run: Run, sharing: str, heads: int) -> list[list[int]]:
    """Heads, from 1, whose layers a stage uses: its own, or all up to its own where the option `sharing` is on."""
    if run.variant.heads > run.variant.stages:  # several classifiers over the layers of one head
        return [[1]] * heads
    shared = run.variant.options.get(sharing, False)
    return [list(range(1, stage + 1)) if shared else [stage] for stage in range(1, heads + 1)]


def _layers_run(run: Run) -> list[list[int]]:
    both = [_own_and_earlier(run, sharing, run.variant.heads) for sharing in ("cfs", "lfs")]
    return [sorted({*one, *other}) for one, other in zip(*both, strict=True)]


def _trained_by(sharing: str, part: str) -> Callable[[Run], list[list[int]]]:
    """Expect the heads whose layers the loss of each stage's classifier or regressor trains."""

    def expected(run: Run) -> list[list[int]]:
        heads = sum(getattr(stage, part) for stage in stage_settings(run))
        used = _own_and_earlier(run, sharing, heads)
        return used if run.variant.options.get("share_gradient", True) else [one[-1:] for one in used]

    return expected


def _borrowed_gradient(run: Run) -> float | list[list[float]]:
    if run.variant.options.get("borrowed_loss", "full") == "full":
        return 1.0
    weights = [stage.trunk_gradient for stage in stage_settings(run)]
    return [[weight / own for own in weights[: number + 1]] for number, weight in enumerate(weights)]


def _pool_size(run: Run) -> int | None:
    return MASK_POOL_SIZE if mask_stages(run) else None


def _trunk_gradients(run: Run) -> list[Any]:
    settings = stage_settings(run)
    return [settings[stage - 1].trunk_gradient for stage in mask_stages(run)]


BACKBONE = (
    stated("backbone.blocks", "Residual blocks per stage."),
    stated("backbone.channels", "Output channels per stage."),
    stated("backbone.inner_channels", "Channels of a block's last 3x3 convolution, per stage."),
    stated("backbone.groups", "Groups of the bottlenecks' 3x3 convolutions."),
    stated("backbone.norm", "Norm of the residual network."),
    stated("backbone.stride_in_1x1", "Whether a bottleneck strides in its first 1x1 convolution."),
    equal("backbone.frozen_parameters", "Backbone parameters that do not learn."),
    derived("backbone.batch_norm", "What batch norm learns; none: there is no batch norm.", _batch_norm),
    derived(
        "backbone.weights_sha256",
        "Checksum of the file of backbone weights; none: random weights.",
        lambda run: run.backbone.weights.sha256 if run.backbone.weights else None,
    ),
    equal("weights.trunk_sha256", "Hash of the initial weights of backbone, neck and RPN.", per_seed=True),
    equal("weights.first_head_sha256", "Hash of the first head's initial weights.", per_seed=True),
    stated("neck.channels", "Channels of every pyramid level."),
    derived("neck.norm", "Norm of the pyramid's convolutions.", _neck_norm),
    constant("neck.levels", "Pyramid levels.", 5),
    constant("neck.last_level", "Probe: how the coarsest level comes from the one before.", "max_pool"),
    constant("neck.top_down", "Probe: how a coarser level is enlarged.", "nearest"),
)

RPN = (
    derived("rpn.anchor_sides", "Square root of an anchor's area, per level.", _anchor_sides, "pixels"),
    stated("rpn.anchor_aspect_ratios", "Height of an anchor over its width.", at="protocol.rpn.anchors.aspect_ratios"),
    equal("rpn.anchor_grid_sha256", "Probe: hash of all anchors of a 96 x 64 image."),
    stated("rpn.positive_iou", "IoU from which an anchor is positive."),
    stated("rpn.negative_iou", "IoU below which an anchor is negative."),
    constant("rpn.low_quality_matches", "Whether a ground truth's best anchors are positive.", True),
    constant("rpn.low_quality_floor", "Probe: least IoU of such a best anchor.", 0.0),
    constant("rpn.low_quality_ground_truth", "Probe: which ground truth such a best anchor regresses to.", "its best"),
    stated("rpn.anchors_per_image", "Anchors sampled per image."),
    stated("rpn.positive_fraction", "Greatest share of positives among the sampled anchors."),
    constant("rpn.loss_normalizer", "Probe: what divides the RPN losses.", "anchors_per_image x images"),
    stated("rpn.train_pre_nms", "Proposals per level before NMS in training."),
    stated("rpn.test_pre_nms", "Proposals per level before NMS in testing."),
    stated("rpn.train_post_nms", "Proposals over all levels after NMS in training."),
    stated("rpn.test_post_nms", "Proposals over all levels after NMS in testing."),
    stated("rpn.nms_iou", "IoU of the RPN's NMS in testing."),
    derived(
        "rpn.train_nms_iou",
        "IoU of the RPN's NMS in training; two where classification and regression have proposals of their own.",
        _train_nms,
    ),
    constant("rpn.min_box_side", "Sides of proposals are longer than this.", 0.0, "pixels"),
    constant("rpn.border", "Border beyond which anchors take no part; -1: none.", -1, "pixels"),
    constant("rpn.padding_anchors", "Probe: whether anchors in a batch's padding take part.", True),
    derived(
        "rpn.regression_loss",
        "Regression loss of the RPN.",
        lambda run: regression_loss_name(run.protocol.rpn.smooth_l1_beta),
    ),
    constant("rpn.loss_weights", "Weights of classification and regression.", [1.0, 1.0]),
    constant("rpn.target_stds", "Standard deviations of the RPN's regression targets.", [1.0] * 4),
    constant("rpn.delta_clamp", "Probe: least and greatest factor on an anchor's side.", SIDE_FACTORS),
)

HEADS = (
    stated("heads.stages", "Regressors in a row.", at="variant.stages"),
    stated("heads.classifiers", "Classifiers.", at="variant.classifiers"),
    derived("heads.iou_threshold", "IoU from which a RoI is positive, per stage.", _per_stage("iou_threshold")),
    derived(
        "heads.target_means",
        "Means of the regression targets, per regressor.",
        lambda run: [[0.0] * 4 for _ in _regressors(run)],
    ),
    derived("heads.target_stds", "Standard deviations of the regression targets, per regressor.", _target_stds),
    derived(
        "heads.delta_clamp",
        "Probe: least and greatest factor on a RoI's side, per regressor.",
        lambda run: [SIDE_FACTORS for _ in _regressors(run)],
    ),
    derived("heads.regression", "One box for all classes or one per class, per regressor.", _regression),
    constant("heads.classification_loss", "Classification loss of the heads.", "cross_entropy"),
    derived(
        "heads.regression_loss",
        "Regression loss of the heads.",
        lambda run: regression_loss_name(run.protocol.heads.smooth_l1_beta),
    ),
    derived(
        "heads.classification_loss_weight",
        "Weight of each stage's classification loss in its head's gradient; none: no classifier.",
        _per_stage("classification_weight"),
    ),
    derived(
        "heads.regression_loss_weight",
        "Weight of each stage's regression loss in its head's gradient; none: no regressor.",
        _per_stage("regression_weight"),
    ),
    constant("heads.loss_normalizer", "Probe: what divides both losses of a stage.", "RoIs"),
    derived(
        "heads.trunk_gradient",
        "Probe: share of each stage's gradient that reaches the trunk.",
        _per_stage("trunk_gradient"),
    ),
    stated("heads.width", "Outputs of a fully connected layer."),
    constant("heads.fully_connected_layers", "Fully connected layers before an output.", 2),
    derived(
        "heads.task_branches",
        "Whether classifier and regressor of the first head share their layers.",
        lambda run: run.variant.options.get("heads", "shared"),
    ),
    derived(
        "heads.regression_branch",
        "What comes before a regressor.",
        lambda run: "residual_convolutions" if run.variant.options.get("double_head") else "fully_connected",
    ),
    derived("heads.trunks_run", "Probe: the heads, from 1, whose layers each stage runs on its RoIs.", _layers_run),
    derived(
        "heads.classifier_trains",
        "Probe: the heads whose layers each classifier's loss trains.",
        _trained_by("cfs", "has_classifier"),
    ),
    derived(
        "heads.regressor_trains",
        "Probe: the heads whose layers each regressor's loss trains.",
        _trained_by("lfs", "has_regressor"),
    ),
    derived(
        "heads.borrowed_gradient",
        "Share of each stage's gradient that the layers get which it borrows from the heads before.",
        _borrowed_gradient,
    ),
    stated("heads.pool_size", "Side of a pooled RoI.", "cells"),
    stated("heads.sampling_ratio", "RoIAlign samples per bin side; 0: as many as the bin has feature cells."),
    constant("heads.pooling_aligned", "Whether RoIAlign shifts by half a pixel.", True),
    equal("heads.level_map_sha256", "Probe: hash of the pyramid levels that fixed boxes are pooled from."),
    stated("heads.rois_per_image", "RoIs sampled for the first stage."),
    stated("heads.positive_fraction", "Greatest share of positives among the sampled RoIs."),
    stated("heads.add_ground_truth", "Whether ground truth joins the first stage's proposals in training."),
    derived(
        "heads.later_ground_truth",
        "Probe: what later stages train on of the ground truth that the first one trained on.",
        lambda run: run.variant.options.get("later_ground_truth", "regressed"),
    ),
    derived(
        "heads.moved_by",
        "Probe: the class whose box a positive passes on in training; none: it has one box, or passes none on.",
        _moved_by,
    ),
    equal("heads.rois_entering", "Probe: RoIs that train each classifier on a fixed batch."),
    equal("heads.positives_entering", "Probe: positives among them."),
    equal("heads.regression_rois_entering", "Probe: RoIs that count in each regressor's loss on that batch."),
    equal("heads.regression_positives_entering", "Probe: positives among them."),
)

MASKS = (
    derived("masks.stages", "Stages, from 1, with a mask branch.", mask_stages),
    derived("masks.pool_size", "Side of a RoI pooled for masks; none: no masks.", _pool_size, "cells"),
    derived(
        "masks.loss_weight",
        "Weight of each mask branch's loss in its own gradient.",
        lambda run: [1.0] * len(mask_stages(run)),
    ),
    derived(
        "masks.trunk_gradient", "Probe: share of each mask branch's gradient that reaches the trunk.", _trunk_gradients
    ),
    equal("masks.rois_entering", "Probe: RoIs that train each mask branch on a fixed batch."),
)

INFERENCE = (
    stated("inference.score_threshold", "Detections score above this."),
    stated("inference.nms_iou", "IoU of the final NMS."),
    constant("inference.nms_classwise", "Probe: whether classes are suppressed apart.", True),
    stated("inference.max_detections", "Detections per image."),
    stated("inference.score_rule", "Test stage that stands for the variant.", at="variant.headline"),
)

MODEL = (
    equal("model.trainable_parameters", "Parameters that learn."),
    ControlDefinition(
        "model.operators",
        "What serves NMS and RoIAlign.",
        kind="framework",
        reason="Each framework calls the operators that its installation has; the stand-ins give the same numbers.",
    ),
)
