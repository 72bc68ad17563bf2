"""The MMDetection configuration, built from the protocol: one base for all variants.

A variant's module (``adapters/variants/<name>/mmdet.py``) gets the base and changes what its card declares.
MMDetection's own configuration files are not used, because they differ from each other in more than the detector. The
rules of the base are the common ones of both frameworks; a protocol may ask for MMDetection's own instead
(``rules.py``).
"""

from typing import Any

import mmdet.models  # noqa: F401 (registers MMDetection's modules)
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope

from adapters.detector.variant_module import variant_module
from adapters.mmdet import sampling  # noqa: F401 (it and what it imports register their modules)
from adapters.mmdet.rules import keep_own_rules
from cascadebench.detectors.backbone import NORM_GROUPS
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import StageSettings, stage_settings

STRIDES = (4, 8, 16, 32, 64)
GROUP_NORM = {"type": "GN", "num_groups": NORM_GROUPS, "requires_grad": True}


def build_detector(run: Run) -> BaseModel:
    """Build the detector of a run; MMDetection draws the weights if the run is to keep them."""
    init_default_scope("mmdet")
    model = MODELS.build(ConfigDict(detector_config(run)))
    if run.protocol.rules != "aligned":
        model.init_weights()
    return model


def detector_config(run: Run) -> dict[str, Any]:
    """Return the detector's whole configuration: the base, changed by the run's variant and the protocol's rules."""
    config = base_config(run)
    variant_module(run).configure(config, run)
    if run.protocol.rules != "aligned":
        keep_own_rules(config, run)
    return config


def base_config(run: Run) -> dict[str, Any]:
    """Faster R-CNN FPN, the first stage alone: what all variants have in common."""
    protocol = run.protocol
    config = {
        "type": "FasterRCNN",
        "data_preprocessor": {
            "type": "StepPreprocessor",
            "mean": run.backbone.pixel_mean,
            "std": run.backbone.pixel_std,
            "bgr_to_rgb": run.backbone.channel_order == "rgb",
            "pad_size_divisor": protocol.input.size_divisor,
        },
        "backbone": backbone_config(run),
        "neck": {
            "type": "FPN",
            "in_channels": run.backbone.channels,
            "out_channels": protocol.neck.channels,
            "num_outs": len(STRIDES),
            "norm_cfg": GROUP_NORM if run.backbone.norm == "group" else None,
        },
        "rpn_head": proposal_network_config(run),
        "roi_head": {"type": "ControlledRoIHeads", "bbox_roi_extractor": roi_extractor_config(run)},
        "train_cfg": {
            "rpn": {
                "assigner": {
                    "type": "BestGroundTruthAssigner",
                    "pos_iou_thr": protocol.rpn.positive_iou,
                    "neg_iou_thr": protocol.rpn.negative_iou,
                    "min_pos_iou": 0.0,
                    "match_low_quality": True,
                    "ignore_iof_thr": -1,
                },
                "sampler": sampler_config(protocol.rpn.anchors_per_image, protocol.rpn.positive_fraction, False),
                "allowed_border": -1,
                "pos_weight": -1,
                "debug": False,
            },
            "rpn_proposal": proposals_config(protocol.rpn.train_pre_nms, protocol.rpn.train_post_nms, run),
        },
        "test_cfg": {
            "rpn": proposals_config(protocol.rpn.test_pre_nms, protocol.rpn.test_post_nms, run),
            "rcnn": {
                "score_thr": protocol.inference.score_threshold,
                "nms": {"type": "nms", "iou_threshold": protocol.inference.nms_iou},
                "max_per_img": protocol.inference.max_detections,
            },
        },
    }
    set_stages(config, run, stage_settings(run)[:1])
    return config


def set_stages(
    config: dict[str, Any], run: Run, settings: list[StageSettings], box_heads: list[dict[str, Any]] | None = None
) -> None:
    """Give the detector these stages; without `box_heads`, each has two fully connected layers for both its outputs.

    Heads without a regressor come last.
    """
    regressors = sum(stage.has_regressor for stage in settings)
    config["roi_head"] |= {
        "num_stages": regressors,
        # The weights of a stage's losses stand in its head.
        "stage_loss_weights": [1.0] * regressors,
        "trunk_gradient": [stage.trunk_gradient for stage in settings],
        "bbox_head": box_heads or [box_head_config(run, stage) for stage in settings],
    }
    training = [stage_training_config(run, stage.iou_threshold) for stage in settings]
    for stage, later in zip(settings[1:], training[1:], strict=True):
        # All boxes that the stage before regressed: no sampling.
        later["sampler"] = {"type": "BoxesAndGroundTruth" if stage.adds_ground_truth else "PseudoSampler"}
    config["train_cfg"]["rcnn"] = training


def sample_apart(config: dict[str, Any], run: Run, positive_fraction: float, add_ground_truth: bool) -> None:
    """Give classification and regression proposals and RoIs of their own in training.

    Parameters
    ----------
    positive_fraction : float
        Greatest share of positives among the RoIs of regression.
    add_ground_truth : bool
        Whether ground truth joins the proposals of regression.
    """
    everywhere = run.protocol.rpn.nms_iou
    given = [run.variant.options[name] for name in ("nms_cls", "nms_reg")]
    config["rpn_head"] |= {
        "type": "CommonRulesTwoListRPN",
        "train_nms_iou": [everywhere if overlap is None else overlap for overlap in given],
    }
    config["roi_head"]["type"] = "DecoupledRoIHeads"
    sampler = sampler_config(run.protocol.heads.rois_per_image, positive_fraction, add_ground_truth)
    config["train_cfg"]["rcnn"][0]["regression_sampler"] = sampler


def backbone_config(run: Run) -> dict[str, Any]:
    """A residual network whose frozen part and batch norm follow the protocol; a group norm always learns."""
    backbone, training = run.backbone, run.protocol.backbone
    batch_norm = {"type": "BN", "requires_grad": training.batch_norm != "frozen"}
    grouped = {"type": "ResNeXt", "groups": backbone.groups, "base_width": backbone.width_per_group}
    return {
        **(grouped if backbone.groups > 1 else {"type": "ResNet"}),
        "depth": backbone.depth,
        "base_channels": backbone.base_channels,
        "stem_channels": backbone.base_channels,
        # MMDetection counts the stem as stage 0 and says -1 for none.
        "frozen_stages": training.frozen_stages - 1,
        "norm_cfg": GROUP_NORM if backbone.norm == "group" else batch_norm,
        "norm_eval": training.batch_norm != "trained",
        "style": "caffe" if backbone.stride_in_1x1 else "pytorch",
    }


def proposal_network_config(run: Run) -> dict[str, Any]:
    """RPN head over all five levels."""
    rpn, channels = run.protocol.rpn, run.protocol.neck.channels
    return {
        "type": "CommonRulesRPNHead",
        "in_channels": channels,
        "feat_channels": channels,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "scales": [rpn.anchors.scale],
            "ratios": list(rpn.anchors.aspect_ratios),
            "strides": list(STRIDES),
        },
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [1.0] * 4},
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
        "loss_bbox": regression_loss_config(rpn.smooth_l1_beta, 1.0),
    }


def proposals_config(pre_nms: int, post_nms: int, run: Run) -> dict[str, Any]:
    """From RPN outputs to proposals."""
    nms = {"type": "nms", "iou_threshold": run.protocol.rpn.nms_iou}
    return {"nms_pre": pre_nms, "max_per_img": post_nms, "nms": nms, "min_bbox_size": 0}


def roi_extractor_config(run: Run) -> dict[str, Any]:
    """RoIAlign over the four finest levels."""
    heads = run.protocol.heads
    align = {"type": "RoIAlign", "output_size": heads.pool_size, "sampling_ratio": heads.sampling_ratio}
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": align,
        "out_channels": run.protocol.neck.channels,
        "featmap_strides": list(STRIDES[:4]),
    }


def box_head_config(
    run: Run, stage: StageSettings, shared: bool = True, regression_convolutions: bool = False
) -> dict[str, Any]:
    """One head: fully connected layers, a softmax classifier and a box regressor, as far as the stage has them.

    Parameters
    ----------
    shared : bool
        Whether classifier and regressor read the same two layers, or have two each.
    regression_convolutions : bool
        Residual convolutions in place of the regressor's own two layers.
    """
    heads = run.protocol.heads
    return {
        "type": "ControlledBoxHead",
        "with_cls": stage.has_classifier,
        "with_reg": stage.has_regressor,
        "num_shared_fcs": 2 if shared else 0,
        "num_cls_fcs": 2 if stage.has_classifier and not shared else 0,
        "num_reg_fcs": 2 if stage.has_regressor and not shared else 0,
        "regression_convolutions": regression_convolutions,
        "in_channels": run.protocol.neck.channels,
        "fc_out_channels": heads.width,
        "roi_feat_size": heads.pool_size,
        "num_classes": len(run.dataset.categories),
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": list(stage.target_stds)},
        "reg_class_agnostic": stage.class_agnostic,
        "loss_cls": classification_loss_config(stage),
        "loss_bbox": regression_loss_config(heads.smooth_l1_beta, stage.regression_weight),
        "drops_ground_truth": run.variant.options.get("later_ground_truth") == "dropped_and_added",
    }


def regression_loss_config(beta: float, weight: float | None) -> dict[str, Any]:
    """Smooth L1 that squares errors below `beta`; L1 where it is 0, which MMDetection's smooth L1 refuses."""
    kind = {"type": "SmoothL1Loss", "beta": beta} if beta else {"type": "L1Loss"}
    return kind | {"loss_weight": weight}


def classification_loss_config(stage: StageSettings) -> dict[str, Any]:
    """Softmax cross-entropy with the stage's weight."""
    return {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": stage.classification_weight}


def sampler_config(number: int, positive_fraction: float, add_ground_truth: bool) -> dict[str, Any]:
    """Random sampling of positives and negatives."""
    return {
        "type": "SharedSampler",
        "num": number,
        "pos_fraction": positive_fraction,
        "neg_pos_ub": -1,
        "add_gt_as_proposals": add_ground_truth,
    }


def stage_training_config(run: Run, iou_threshold: float) -> dict[str, Any]:
    """Matching and sampling of a stage whose RoIs are sampled."""
    heads = run.protocol.heads
    return {
        "assigner": {
            "type": "StageAssigner",
            "pos_iou_thr": iou_threshold,
            "neg_iou_thr": iou_threshold,
            "min_pos_iou": iou_threshold,
            "match_low_quality": False,
            "ignore_iof_thr": -1,
        },
        "sampler": sampler_config(heads.rois_per_image, heads.positive_fraction, heads.add_ground_truth),
        "pos_weight": -1,
        "debug": False,
    }
