"""Cascade R-CNN: heads in a row, each on the boxes of the head before."""

from typing import Any

from cascadebench.cascade import stage_iou_thresholds, stage_target_stds, stage_weights

from adapters.mmdet.config import box_head_config, roi_extractor_config, stage_training_config
from cascadebench.run import Run


def configure(config: dict[str, Any], run: Run) -> None:
    """Replace the one head by a cascade and its matching by one per stage."""
    heads, stages = run.protocol.heads, run.variant.stages
    config["type"] = "CascadeRCNN"
    config["roi_head"] = {
        "type": "ControlledCascadeRoIHead",
        "num_stages": stages,
        # Every head sees its full gradient; the stage's weight acts where the trunk begins.
        "stage_loss_weights": [1.0] * stages,
        "trunk_gradient": stage_weights(run.variant.options["stage_loss"], stages),
        "bbox_roi_extractor": roi_extractor_config(run),
        "bbox_head": [
            box_head_config(run, stds) | {"type": "ControlledCascadeBoxHead"}
            for stds in stage_target_stds(heads.target_stds, stages)
        ],
    }
    training = [stage_training_config(run, iou) for iou in stage_iou_thresholds(heads.iou_threshold, stages)]
    for later in training[1:]:
        # All boxes that the stage before regressed: no sampling, no ground truth added again.
        later["sampler"] = {"type": "PseudoSampler"}
    config["train_cfg"]["rcnn"] = training
