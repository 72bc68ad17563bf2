"""From scores and boxes to detections, and what the model is as a whole."""

from collections.abc import Iterator

import torch
from mmdet.models.layers import multiclass_nms

from adapters.inspection.control_rows import Row
from adapters.mmdet.controls.proposals import overlap_of_nms
from adapters.mmdet.operators import operators_in_use
from adapters.prediction.score_rules import effective_score_rule
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``inference.*`` and ``model.*``."""
    config, where = built.model.test_cfg.rcnn, "model.test_cfg.rcnn"
    yield "inference.score_threshold", config.score_thr, f"{where}.score_thr"
    yield "inference.nms_iou", overlap_of_nms(config.nms), f"{where}.nms"
    yield "inference.nms_classwise", suppresses_classwise(built), f"probe: multiclass_nms() with {where}.nms"
    yield "inference.max_detections", config.max_per_img, f"{where}.max_per_img"
    variant = built.run.variant
    rule = effective_score_rule(variant.stages, variant.classifiers, variant.headline)
    yield "inference.score_rule", rule, "probe: boxes_and_scores() on fixed outputs"
    trainable = sum(parameter.numel() for parameter in built.model.parameters() if parameter.requires_grad)
    yield "model.trainable_parameters", trainable, "model.parameters() with requires_grad"
    yield "model.operators", operators_in_use(), "sys.modules['mmcv._ext']"


def suppresses_classwise(built: Built) -> bool:
    """Say whether a box that two proposals give under two classes is detected twice."""
    boxes = torch.tensor([[10.0, 10.0, 50.0, 50.0]] * 2)
    scores = torch.tensor([[0.9, 0.0, 0.1], [0.0, 0.8, 0.2]])
    return len(multiclass_nms(boxes, scores, 0.5, built.model.test_cfg.rcnn.nms, 10)[0]) == 2
