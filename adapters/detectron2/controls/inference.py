"""From scores and boxes to detections, and what the model is as a whole."""

from collections.abc import Iterator

import torch

from adapters.detectron2.operators import operators_in_use
from adapters.detectron2.stages import ControlledRoIHeads
from adapters.inspection.control_rows import Row, one_or_all
from adapters.prediction.score_rules import effective_score_rule
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``inference.*`` and ``model.*``."""
    heads, variant = built.model.roi_heads, built.run.variant
    predictors = heads.box_predictor
    for name, attribute in (
        ("score_threshold", "test_score_thresh"), ("nms_iou", "test_nms_thresh"),
        ("max_detections", "test_topk_per_image"),
    ):  # fmt: skip
        value = one_or_all(getattr(one, attribute) for one in predictors)
        yield f"inference.{name}", value, f"roi_heads.box_predictor[t].{attribute}"
    classwise = one_or_all(suppresses_classwise(heads, stage) for stage in range(heads.regressors))
    yield "inference.nms_classwise", classwise, "probe: one box under two classes"
    rule = effective_score_rule(variant.stages, variant.classifiers, variant.headline)
    yield "inference.score_rule", rule, "probe: boxes_and_scores() on fixed outputs"
    trainable = sum(parameter.numel() for parameter in built.model.parameters() if parameter.requires_grad)
    yield "model.trainable_parameters", trainable, "model.parameters() with requires_grad"
    yield "model.operators", operators_in_use(), "detectron2.layers.nms.box_ops, detectron2.layers.roi_align.roi_align"


def suppresses_classwise(heads: ControlledRoIHeads, stage: int) -> bool:
    """Say whether a box that two proposals give under two classes is detected twice."""
    if heads.num_classes == 1:
        return True
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0]]).repeat(2, 1)
    scores = torch.zeros(2, heads.num_classes + 1)
    scores[0, 0], scores[1, 1] = 0.99, 0.98
    return sorted(heads.detect(stage, boxes, scores, (128, 128))[2].tolist()) == [0, 1]
