"""The Detectron2 configuration, built from the protocol: one base for all variants.

It is a tree of Detectron2's LazyCall nodes. A variant's module (``adapters/variants/<name>/detectron2.py``) gets the
tree and changes what its card declares. Detectron2's own configuration files are not used, because they differ from
each other in more than the detector.
"""

from typing import Any

import torch.nn.functional as F
from detectron2.config import LazyCall, instantiate
from detectron2.layers import CNNBlockBase, ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import StandardRPNHead
from detectron2.modeling.roi_heads import FastRCNNConvFCHead
from omegaconf import DictConfig
from torch import Tensor, nn

from adapters.detector.variant_module import variant_module
from adapters.detectron2.box_heads import StageOutputLayers, TaskBranches
from adapters.detectron2.rules import (
    SharedSamplingRoIs,
    SharedSamplingRPN,
    StepPaddedRCNN,
    TwoSidedBoxTransform,
    keep_own_rules,
)
from adapters.detectron2.sampling import DecoupledRoIHeads, TwoListRPN
from adapters.detectron2.stages import ControlledRoIHeads
from adapters.layers.convolution_branch import ConvolutionBranch
from cascadebench.core.errors import InputError
from cascadebench.detectors.backbone import Backbone
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import StageSettings, stage_settings

STRIDES = (4, 8, 16, 32, 64)
RESIDUAL_STAGES = ["res2", "res3", "res4", "res5"]
PYRAMID_LEVELS = ["p2", "p3", "p4", "p5", "p6"]


class FixedStatisticsBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that always normalises with its stored statistics; scale and shift learn.

    Detectron2 has batch norm that learns everything or nothing; this is between the two.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise a float [N, C, H, W] map; training mode makes no difference."""
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


NORMS = {"trained": "BN", "fixed_statistics": FixedStatisticsBatchNorm2d, "frozen": "FrozenBN"}
GROUP_NORM = "GN"  # Detectron2's has 32 groups, as :data:`cascadebench.detectors.backbone.NORM_GROUPS` says


class DivisibleFPN(FPN):
    """A feature pyramid that asks for images padded to a multiple of the protocol's divisor, not of its last stride."""

    def __init__(self, size_divisor: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        if size_divisor % self._size_divisibility:
            raise InputError(
                f"protocol: input.size_divisor: {size_divisor}; detectron2's FPN needs a multiple of "
                f"{self._size_divisibility}"
            )
        self._size_divisibility = size_divisor


def build_detector(run: Run) -> GeneralizedRCNN:
    """Build the detector of a run; raises InputError if its pyramid cannot serve the protocol's size divisor."""
    return instantiate(detector_config(run))


def detector_config(run: Run) -> DictConfig:
    """Return the detector's whole configuration: the base, changed by the run's variant and then by the rules."""
    config = base_config(run)
    variant_module(run).configure(config, run)
    if run.protocol.rules != "aligned":
        keep_own_rules(config)
    return config


def base_config(run: Run) -> DictConfig:
    """Faster R-CNN FPN, the first stage alone: what all variants have in common."""
    config = LazyCall(StepPaddedRCNN)(
        backbone=pyramid_config(run),
        proposal_generator=proposal_network_config(run),
        roi_heads=roi_heads_config(run),
        pixel_mean=list(run.backbone.pixel_mean),
        pixel_std=list(run.backbone.pixel_std),
        input_format=run.backbone.channel_order.upper(),
    )
    set_stages(config, run, stage_settings(run)[:1])
    return config


def residual_stages(backbone: Backbone, norm: Any) -> list[list[CNNBlockBase]]:
    """Build the four residual stages of a ResNet or ResNeXt."""
    stages, in_channels = [], backbone.base_channels
    for number, (blocks, out_channels) in enumerate(zip(backbone.blocks, backbone.channels, strict=True)):
        block, bottleneck = BasicBlock, {}
        if backbone.depth >= 50:
            block = BottleneckBlock
            bottleneck = {
                "bottleneck_channels": backbone.inner_channels[number],
                "num_groups": backbone.groups,
                "stride_in_1x1": backbone.stride_in_1x1,
            }
        stages.append(
            ResNet.make_stage(
                block,
                blocks,
                stride_per_block=[1 if number == 0 else 2] + [1] * (blocks - 1),
                in_channels=in_channels,
                out_channels=out_channels,
                norm=norm,
                **bottleneck,
            )
        )
        in_channels = out_channels
    return stages


def pyramid_config(run: Run) -> DictConfig:
    """Feature pyramid p2 to p6 over a residual network.

    The frozen part and batch norm follow the protocol; a group norm always learns, and the pyramid has it too.
    """
    backbone, training = run.backbone, run.protocol.backbone
    norm = GROUP_NORM if backbone.norm == "group" else NORMS[training.batch_norm]
    return LazyCall(DivisibleFPN)(
        bottom_up=LazyCall(ResNet)(
            stem=LazyCall(BasicStem)(in_channels=3, out_channels=backbone.base_channels, norm=norm),
            stages=LazyCall(residual_stages)(backbone=backbone, norm=norm),
            out_features=RESIDUAL_STAGES,
            # Detectron2 counts as the protocol does: 1 is the stem, 2 the stem and res2.
            freeze_at=training.frozen_stages,
        ),
        in_features=RESIDUAL_STAGES,
        out_channels=run.protocol.neck.channels,
        norm=GROUP_NORM if backbone.norm == "group" else "",
        top_block=LazyCall(LastLevelMaxPool)(),
        size_divisor=run.protocol.input.size_divisor,
    )


def proposal_network_config(run: Run) -> DictConfig:
    """RPN over all five levels."""
    rpn = run.protocol.rpn
    return LazyCall(SharedSamplingRPN)(
        in_features=PYRAMID_LEVELS,
        head=LazyCall(StandardRPNHead)(
            in_channels=run.protocol.neck.channels, num_anchors=len(rpn.anchors.aspect_ratios)
        ),
        anchor_generator=LazyCall(DefaultAnchorGenerator)(
            sizes=[[rpn.anchors.scale * stride] for stride in STRIDES],
            aspect_ratios=list(rpn.anchors.aspect_ratios),
            strides=list(STRIDES),
            offset=0.0,
        ),
        anchor_matcher=LazyCall(Matcher)(
            thresholds=[rpn.negative_iou, rpn.positive_iou], labels=[0, -1, 1], allow_low_quality_matches=True
        ),
        box2box_transform=LazyCall(TwoSidedBoxTransform)(weights=[1.0] * 4),
        batch_size_per_image=rpn.anchors_per_image,
        positive_fraction=rpn.positive_fraction,
        pre_nms_topk=[rpn.train_pre_nms, rpn.test_pre_nms],
        post_nms_topk=[rpn.train_post_nms, rpn.test_post_nms],
        nms_thresh=rpn.nms_iou,
        anchor_boundary_thresh=-1,
        smooth_l1_beta=rpn.smooth_l1_beta,
    )


def roi_heads_config(run: Run) -> DictConfig:
    """RoIAlign over the four finest levels; the stages come by :func:`set_stages`."""
    heads = run.protocol.heads
    return LazyCall(ControlledRoIHeads)(
        num_classes=len(run.dataset.categories),
        batch_size_per_image=heads.rois_per_image,
        positive_fraction=heads.positive_fraction,
        proposal_append_gt=heads.add_ground_truth,
        box_in_features=PYRAMID_LEVELS[:4],
        box_pooler=LazyCall(ROIPooler)(
            output_size=heads.pool_size,
            scales=[1 / stride for stride in STRIDES[:4]],
            sampling_ratio=heads.sampling_ratio,
            pooler_type="ROIAlignV2",
        ),
    )


def set_stages(
    config: DictConfig, run: Run, settings: list[StageSettings], box_heads: list[DictConfig] | None = None
) -> None:
    """Give the detector these stages; without `box_heads`, each has two fully connected layers for both its outputs."""
    config.roi_heads.update(
        box_heads=box_heads or [box_head_config(run, stage) for stage in settings],
        box_predictors=[box_predictor_config(run, stage) for stage in settings],
        proposal_matchers=[matcher_config(stage.iou_threshold) for stage in settings],
        # Every head sees its full gradient; the stage's weight acts where the trunk begins.
        trunk_gradient=[stage.trunk_gradient for stage in settings],
        later_ground_truth=any(stage.adds_ground_truth for stage in settings),
    )


def box_head_config(
    run: Run, stage: StageSettings, shared: bool = True, regression_convolutions: bool = False
) -> DictConfig:
    """The layers before a stage's outputs.

    Parameters
    ----------
    shared : bool
        Whether classifier and regressor read the same two layers, or have two each, as far as the stage has them.
    regression_convolutions : bool
        Residual convolutions in place of the regressor's own two layers.
    """
    channels, width = run.protocol.neck.channels, run.protocol.heads.width
    size = run.protocol.heads.pool_size
    connected = LazyCall(FastRCNNConvFCHead)(
        input_shape=ShapeSpec(channels=channels, height=size, width=size), conv_dims=[], fc_dims=[width] * 2
    )
    if shared:
        return connected
    convolutions = LazyCall(ConvolutionBranch)(channels=channels, width=width)
    regression = convolutions if regression_convolutions else connected
    return LazyCall(TaskBranches)(
        classification=connected if stage.has_classifier else None,
        regression=regression if stage.has_regressor else None,
    )


def box_predictor_config(run: Run, stage: StageSettings) -> DictConfig:
    """A softmax classifier and a box regressor, as far as a stage has them."""
    inference = run.protocol.inference
    return LazyCall(StageOutputLayers)(
        input_shape=ShapeSpec(channels=run.protocol.heads.width),
        # Detectron2 multiplies the targets where others divide them.
        box2box_transform=LazyCall(TwoSidedBoxTransform)(weights=[1 / std for std in stage.target_stds]),
        num_classes=len(run.dataset.categories),
        test_score_thresh=inference.score_threshold,
        test_nms_thresh=inference.nms_iou,
        test_topk_per_image=inference.max_detections,
        cls_agnostic_bbox_reg=stage.class_agnostic,
        smooth_l1_beta=run.protocol.heads.smooth_l1_beta,
        loss_weight={"loss_cls": stage.classification_weight or 0.0, "loss_box_reg": stage.regression_weight or 0.0},
        classifies=stage.has_classifier,
        regresses=stage.has_regressor,
        drops_ground_truth=run.variant.options.get("later_ground_truth") == "dropped_and_added",
    )


def matcher_config(iou_threshold: float) -> DictConfig:
    """A RoI at or above the threshold is positive, any other negative."""
    return LazyCall(Matcher)(thresholds=[iou_threshold], labels=[0, 1], allow_low_quality_matches=False)


def sample_apart(config: DictConfig, run: Run, positive_fraction: float, add_ground_truth: bool) -> None:
    """Give classification and regression proposals and RoIs of their own in training.

    Parameters
    ----------
    positive_fraction : float
        Greatest share of positives among the RoIs of regression.
    add_ground_truth : bool
        Whether ground truth joins the proposals of regression.
    """
    heads, everywhere = config.roi_heads, run.protocol.rpn.nms_iou
    heads["_target_"] = DecoupledRoIHeads
    heads.regression_sampler = LazyCall(SharedSamplingRoIs)(
        num_classes=heads.num_classes,
        batch_size_per_image=heads.batch_size_per_image,
        positive_fraction=positive_fraction,
        proposal_matcher=heads.proposal_matchers[0],
        proposal_append_gt=add_ground_truth,
    )
    config.proposal_generator["_target_"] = TwoListRPN
    given = [run.variant.options[name] for name in ("nms_cls", "nms_reg")]
    config.proposal_generator.train_nms_thresh = [everywhere if overlap is None else overlap for overlap in given]
