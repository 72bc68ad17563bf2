"""Controls of the model: backbone and pyramid, region proposal network, heads, inference."""

from collections.abc import Callable
from typing import Any

from cascadebench.controls.control_definition import ControlDefinition as Control
from cascadebench.controls.control_definition import always, value
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import StageSettings, stage_settings

SIDE_FACTORS = [0.016, 62.5]
"""Least and greatest factor on a box's side, 16 / 1000 and 1000 / 16."""


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


BACKBONE = (
    Control("backbone.blocks", "Residual blocks per stage.", expected=value("backbone.blocks")),
    Control("backbone.channels", "Output channels per stage.", expected=value("backbone.channels")),
    Control(
        "backbone.inner_channels",
        "Channels of a block's last 3x3 convolution, per stage.",
        expected=value("backbone.inner_channels"),
    ),
    Control("backbone.groups", "Groups of the bottlenecks' 3x3 convolutions.", expected=value("backbone.groups")),
    Control("backbone.norm", "Norm of the residual network.", expected=value("backbone.norm")),
    Control(
        "backbone.stride_in_1x1",
        "Whether a bottleneck strides in its first 1x1 convolution.",
        expected=value("backbone.stride_in_1x1"),
    ),
    Control("backbone.frozen_parameters", "Backbone parameters that do not learn.", kind="equal"),
    Control("backbone.batch_norm", "What batch norm learns; none: there is no batch norm.", expected=_batch_norm),
    Control(
        "backbone.weights_sha256",
        "Checksum of the file of backbone weights; none: random weights.",
        expected=lambda run: run.backbone.weights.sha256 if run.backbone.weights else None,
    ),
    Control(
        "weights.trunk_sha256", "Hash of the initial weights of backbone, neck and RPN.", kind="equal", per_seed=True
    ),
    Control("weights.first_head_sha256", "Hash of the first head's initial weights.", kind="equal", per_seed=True),
    Control("neck.channels", "Channels of every pyramid level.", expected=value("protocol.neck.channels")),
    Control("neck.norm", "Norm of the pyramid's convolutions.", expected=_neck_norm),
    Control("neck.levels", "Pyramid levels.", expected=always(5)),
    Control("neck.last_level", "Probe: how the coarsest level comes from the one before.", expected=always("max_pool")),
    Control("neck.top_down", "Probe: how a coarser level is enlarged.", expected=always("nearest")),
)

RPN = (
    Control("rpn.anchor_sides", "Square root of an anchor's area, per level.", "pixels", expected=_anchor_sides),
    Control(
        "rpn.anchor_aspect_ratios",
        "Height of an anchor over its width.",
        expected=value("protocol.rpn.anchors.aspect_ratios"),
    ),
    Control("rpn.anchor_grid_sha256", "Probe: hash of all anchors of a 96 x 64 image.", kind="equal"),
    Control("rpn.positive_iou", "IoU from which an anchor is positive.", expected=value("protocol.rpn.positive_iou")),
    Control("rpn.negative_iou", "IoU below which an anchor is negative.", expected=value("protocol.rpn.negative_iou")),
    Control("rpn.low_quality_matches", "Whether a ground truth's best anchors are positive.", expected=always(True)),
    Control("rpn.low_quality_floor", "Probe: least IoU of such a best anchor.", expected=always(0.0)),
    Control(
        "rpn.low_quality_ground_truth",
        "Probe: which ground truth such a best anchor regresses to.",
        expected=always("its best"),
    ),
    Control("rpn.anchors_per_image", "Anchors sampled per image.", expected=value("protocol.rpn.anchors_per_image")),
    Control(
        "rpn.positive_fraction",
        "Greatest share of positives among the sampled anchors.",
        expected=value("protocol.rpn.positive_fraction"),
    ),
    Control(
        "rpn.loss_normalizer",
        "Probe: what divides the RPN losses.",
        expected=always("anchors_per_image x images"),
    ),
    Control(
        "rpn.train_pre_nms",
        "Proposals per level before NMS in training.",
        expected=value("protocol.rpn.train_pre_nms"),
    ),
    Control(
        "rpn.test_pre_nms", "Proposals per level before NMS in testing.", expected=value("protocol.rpn.test_pre_nms")
    ),
    Control(
        "rpn.train_post_nms",
        "Proposals over all levels after NMS in training.",
        expected=value("protocol.rpn.train_post_nms"),
    ),
    Control(
        "rpn.test_post_nms",
        "Proposals over all levels after NMS in testing.",
        expected=value("protocol.rpn.test_post_nms"),
    ),
    Control("rpn.nms_iou", "IoU of the RPN's NMS in testing.", expected=value("protocol.rpn.nms_iou")),
    Control(
        "rpn.train_nms_iou",
        "IoU of the RPN's NMS in training; two where classification and regression have proposals of their own.",
        expected=_train_nms,
    ),
    Control("rpn.min_box_side", "Sides of proposals are longer than this.", "pixels", expected=always(0.0)),
    Control("rpn.border", "Border beyond which anchors take no part; -1: none.", "pixels", expected=always(-1)),
    Control("rpn.padding_anchors", "Probe: whether anchors in a batch's padding take part.", expected=always(True)),
    Control("rpn.regression_loss", "Regression loss of the RPN.", expected=always("l1")),
    Control("rpn.loss_weights", "Weights of classification and regression.", expected=always([1.0, 1.0])),
    Control("rpn.target_stds", "Standard deviations of the RPN's regression targets.", expected=always([1.0] * 4)),
    Control(
        "rpn.delta_clamp",
        "Probe: least and greatest factor on an anchor's side.",
        expected=always(SIDE_FACTORS),
    ),
)

HEADS = (
    Control("heads.stages", "Regressors in a row.", expected=value("variant.stages")),
    Control("heads.classifiers", "Classifiers.", expected=value("variant.classifiers")),
    Control(
        "heads.iou_threshold", "IoU from which a RoI is positive, per stage.", expected=_per_stage("iou_threshold")
    ),
    Control(
        "heads.target_means",
        "Means of the regression targets, per regressor.",
        expected=lambda run: [[0.0] * 4 for _ in _regressors(run)],
    ),
    Control(
        "heads.target_stds", "Standard deviations of the regression targets, per regressor.", expected=_target_stds
    ),
    Control(
        "heads.delta_clamp",
        "Probe: least and greatest factor on a RoI's side, per regressor.",
        expected=lambda run: [SIDE_FACTORS for _ in _regressors(run)],
    ),
    Control("heads.regression", "One box for all classes or one per class, per regressor.", expected=_regression),
    Control("heads.classification_loss", "Classification loss of the heads.", expected=always("cross_entropy")),
    Control("heads.regression_loss", "Regression loss of the heads.", expected=always("l1")),
    Control(
        "heads.classification_loss_weight",
        "Weight of each stage's classification loss in its head's gradient; none: no classifier.",
        expected=_per_stage("classification_weight"),
    ),
    Control(
        "heads.regression_loss_weight",
        "Weight of each stage's regression loss in its head's gradient; none: no regressor.",
        expected=_per_stage("regression_weight"),
    ),
    Control("heads.loss_normalizer", "Probe: what divides both losses of a stage.", expected=always("RoIs")),
    Control(
        "heads.trunk_gradient",
        "Probe: share of each stage's gradient that reaches the trunk.",
        expected=_per_stage("trunk_gradient"),
    ),
    Control("heads.width", "Outputs of a fully connected layer.", expected=value("protocol.heads.width")),
    Control("heads.fully_connected_layers", "Fully connected layers before an output.", expected=always(2)),
    Control(
        "heads.task_branches",
        "Whether classifier and regressor of the first head share their layers.",
        expected=lambda run: run.variant.options.get("heads", "shared"),
    ),
    Control(
        "heads.regression_branch",
        "What comes before a regressor.",
        expected=lambda run: "residual_convolutions" if run.variant.options.get("double_head") else "fully_connected",
    ),
    Control(
        "heads.trunks_run",
        "Probe: the heads, from 1, whose layers each stage runs on its RoIs.",
        expected=_layers_run,
    ),
    Control(
        "heads.classifier_trains",
        "Probe: the heads whose layers each classifier's loss trains.",
        expected=_trained_by("cfs", "has_classifier"),
    ),
    Control(
        "heads.regressor_trains",
        "Probe: the heads whose layers each regressor's loss trains.",
        expected=_trained_by("lfs", "has_regressor"),
    ),
    Control("heads.pool_size", "Side of a pooled RoI.", "cells", expected=value("protocol.heads.pool_size")),
    Control(
        "heads.sampling_ratio",
        "RoIAlign samples per bin side; 0: as many as the bin has feature cells.",
        expected=value("protocol.heads.sampling_ratio"),
    ),
    Control("heads.pooling_aligned", "Whether RoIAlign shifts by half a pixel.", expected=always(True)),
    Control(
        "heads.level_map_sha256", "Probe: hash of the pyramid levels that fixed boxes are pooled from.", kind="equal"
    ),
    Control(
        "heads.rois_per_image", "RoIs sampled for the first stage.", expected=value("protocol.heads.rois_per_image")
    ),
    Control(
        "heads.positive_fraction",
        "Greatest share of positives among the sampled RoIs.",
        expected=value("protocol.heads.positive_fraction"),
    ),
    Control(
        "heads.add_ground_truth",
        "Whether ground truth joins the first stage's proposals in training.",
        expected=value("protocol.heads.add_ground_truth"),
    ),
    Control("heads.rois_entering", "Probe: RoIs that train each classifier on a fixed batch.", kind="equal"),
    Control("heads.positives_entering", "Probe: positives among them.", kind="equal"),
    Control(
        "heads.regression_rois_entering", "Probe: RoIs that count in each regressor's loss on that batch.", kind="equal"
    ),
    Control("heads.regression_positives_entering", "Probe: positives among them.", kind="equal"),
)

INFERENCE = (
    Control(
        "inference.score_threshold",
        "Detections score above this.",
        expected=value("protocol.inference.score_threshold"),
    ),
    Control("inference.nms_iou", "IoU of the final NMS.", expected=value("protocol.inference.nms_iou")),
    Control("inference.nms_classwise", "Probe: whether classes are suppressed apart.", expected=always(True)),
    Control("inference.max_detections", "Detections per image.", expected=value("protocol.inference.max_detections")),
    Control("inference.score_rule", "Test stage that stands for the variant.", expected=value("variant.headline")),
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
