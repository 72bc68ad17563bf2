"""The MMDetection configuration, built from the protocol: one base for all variants.

A variant's module (``variants/<name>.py``) gets the base and changes what its card declares. MMDetection's own
configuration files are not used, because they differ from each other in more than the detector. The rules of the base
are the common ones of both frameworks; a protocol may ask for MMDetection's own instead (``own_rules.py``).
"""

from typing import Any

import mmdet.models  # noqa: F401 (registers MMDetection's modules)
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope

from adapters.initial_weights import fill_with_common_weights
from adapters.mmdet import alignment, own_rules, stages  # noqa: F401 (alignment and stages register their modules)
from adapters.mmdet.weights import common_name
from adapters.variant_module import variant_module
from cascadebench.run import Run

STRIDES = (4, 8, 16, 32, 64)


def build_detector(run: Run) -> BaseModel:
    """Build the detector of a run with the common initial weights of its seed.

    Under MMDetection's own rules the weights are drawn by MMDetection, from torch's current random state.
    """
    init_default_scope("mmdet")
    model = MODELS.build(ConfigDict(detector_config(run)))
    if own_rules.apply_to(run):
        model.init_weights()
    else:
        fill_with_common_weights(model, common_name, run)
    return model


def detector_config(run: Run) -> dict[str, Any]:
    """Return the detector's whole configuration: the base, changed by the run's variant and the protocol's rules."""
    config = base_config(run)
    variant_module(run).configure(config, run)
    if own_rules.apply_to(run):
        own_rules.keep_own_rules(config, run)
    return config


def base_config(run: Run) -> dict[str, Any]:
    """Faster R-CNN FPN with one class-agnostic head: what all variants have in common."""
    protocol = run.protocol
    return {
        "type": "FasterRCNN",
        "data_preprocessor": {
            "type": "DetDataPreprocessor",
            "mean": run.backbone.pixel_mean,
            "std": run.backbone.pixel_std,
            "bgr_to_rgb": run.backbone.channel_order == "rgb",
            "pad_size_divisor": protocol.input.size_divisor,
        },
        "backbone": backbone_config(run),
        "neck": {
            "type": "FPN",
            "in_channels": feature_channels(run),
            "out_channels": protocol.neck.channels,
            "num_outs": len(STRIDES),
        },
        "rpn_head": proposal_network_config(run),
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": roi_extractor_config(run),
            "bbox_head": box_head_config(run, protocol.heads.target_stds),
        },
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
            "rcnn": stage_training_config(run, protocol.heads.iou_threshold),
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


def feature_channels(run: Run) -> list[int]:
    """Output channels of the four residual stages; bottleneck blocks have four times the base."""
    expansion = 1 if run.backbone.depth < 50 else 4
    return [run.backbone.base_channels * expansion * 2**stage for stage in range(4)]


def backbone_config(run: Run) -> dict[str, Any]:
    """A residual network whose frozen part and batch norm follow the protocol."""
    training = run.protocol.backbone
    return {
        "type": "ResNet",
        "depth": run.backbone.depth,
        "base_channels": run.backbone.base_channels,
        "stem_channels": run.backbone.base_channels,
        # MMDetection counts the stem as stage 0 and says -1 for none.
        "frozen_stages": training.frozen_stages - 1,
        "norm_cfg": {"type": "BN", "requires_grad": training.batch_norm != "frozen"},
        "norm_eval": training.batch_norm != "trained",
        "style": "caffe" if run.backbone.stride_in_1x1 else "pytorch",
    }


def proposal_network_config(run: Run) -> dict[str, Any]:
    """RPN head over all five levels, L1 regression loss."""
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
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
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


def box_head_config(run: Run, target_stds: tuple[float, ...], class_agnostic: bool = True) -> dict[str, Any]:
    """One head: two fully connected layers, a softmax classifier and an L1 box regressor."""
    heads = run.protocol.heads
    return {
        "type": "Shared2FCBBoxHead",
        "in_channels": run.protocol.neck.channels,
        "fc_out_channels": heads.width,
        "roi_feat_size": heads.pool_size,
        "num_classes": len(run.dataset.categories),
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": list(target_stds)},
        "reg_class_agnostic": class_agnostic,
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    }


def sampler_config(number: int, positive_fraction: float, add_ground_truth: bool) -> dict[str, Any]:
    """Random sampling of positives and negatives."""
    return {
        "type": "RandomSampler",
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
            "type": "MaxIoUAssigner",
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
