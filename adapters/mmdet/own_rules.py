"""MMDetection's own rules, for a protocol that keeps them (``rules: mmdet``).

The adapter's configuration is written for the common rules. Here it is changed back, wherever MMDetection's templates
``faster-rcnn_r50_fpn.py`` and ``cascade-rcnn_r50_fpn.py`` say otherwise and the protocol has no value for it.
Detections still come from this project's test stages, which include MMDetection's mean of logits.
"""

from typing import Any

from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


def image_backend(run: Run) -> str:
    """Library that decodes and resizes images: OpenCV, whose bilinear filter does not antialias, or Pillow."""
    return "pillow" if run.protocol.rules == "aligned" else "cv2"


def keep_own_rules(config: dict[str, Any], run: Run) -> None:
    """Change a detector's configuration from the common rules to MMDetection's own."""
    # Losses divided by the sampled anchors; anchors in padding take no part.
    config["rpn_head"]["type"] = config["rpn_head"]["type"].removeprefix("CommonRules")
    # Each ground truth's best anchor is positive from this IoU on, and regresses to that ground truth.
    config["train_cfg"]["rpn"]["assigner"] |= {"type": "MaxIoUAssigner", "min_pos_iou": 0.3}
    first = config["train_cfg"]["rcnn"][0]
    for sampler in (config["train_cfg"]["rpn"]["sampler"], first["sampler"], first.get("regression_sampler", {})):
        sampler["type"] = "RandomSampler"
    if config["type"] == "CascadeRCNN":
        _keep_cascade_rules(config, run)


def _keep_cascade_rules(config: dict[str, Any], run: Run) -> None:
    """Change what MMDetection's cascade does otherwise than its Faster R-CNN."""
    config["train_cfg"]["rpn"]["allowed_border"] = 0  # no anchor that crosses the image's border
    config["train_cfg"]["rpn_proposal"]["max_per_img"] = 2 * run.protocol.rpn.train_post_nms
    config["rpn_head"]["loss_bbox"] = {"type": "SmoothL1Loss", "beta": 1 / 9, "loss_weight": 1.0}
    roi_head, stages = config["roi_head"], run.variant.stages
    # A stage's weight acts on its whole loss, so on the head's gradient and the trunk's alike.
    roi_head["stage_loss_weights"] = [stage.trunk_gradient for stage in stage_settings(run)]
    roi_head["trunk_gradient"] = [1.0] * stages
    for head in roi_head["bbox_head"]:
        head["type"] = "StageBoxHead"  # drops what began as ground truth
        del head["drops_ground_truth"]
        head["loss_bbox"] = {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1.0}
        # The template writes thirds as .033 and .067.
        head["bbox_coder"]["target_stds"] = [round(std, 3) for std in head["bbox_coder"]["target_stds"]]
    # Every stage samples as the first does, and gets the ground truth added again.
    first, *later = config["train_cfg"]["rcnn"]
    for stage in later:
        stage["sampler"] = dict(first["sampler"])
