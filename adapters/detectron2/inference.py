"""From one resized image to the detections of every test stage."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from torch import Tensor

from adapters.contract import Detections, Prediction
from adapters.score_rules import boxes_and_scores
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.test_stages import TestStage


@torch.inference_mode()
def predict_one(
    model: GeneralizedRCNN, record: ImageRecord, image: dict[str, Any], test_stages: Sequence[TestStage]
) -> Prediction:
    """Run one resized image through the detector, which must be in evaluation mode, and read test stages off."""
    images = model.preprocess_image([image])
    features = model.backbone(images.tensor)
    (proposals,), _ = model.proposal_generator(images, features, None)
    heads = model.roi_heads
    outputs = heads.run_stages(features, proposals, test_stages)
    found = {}
    for stage, boxes, scores in boxes_and_scores(test_stages, outputs):
        detected = heads.detect(stage.boxes - 1, boxes, scores, images.image_sizes[0])
        found[stage.label] = on_original(detected, record)
    objectness = proposals.objectness_logits.sigmoid()
    as_detections = Instances(
        proposals.image_size,
        pred_boxes=proposals.proposal_boxes,
        scores=objectness,
        pred_classes=torch.zeros_like(objectness, dtype=torch.long),
    )
    return Prediction(record.id, on_original(as_detections, record), found)


def on_original(detected: Instances, record: ImageRecord) -> Detections:
    """Scale boxes to the original image, clip them to it and drop what has no area; `detected` is used up."""
    scaled = detector_postprocess(detected, record.height, record.width)
    return Detections(
        _array(scaled.pred_boxes.tensor, np.float32),
        _array(scaled.scores, np.float32),
        _array(scaled.pred_classes, np.int64),
    )


def _array(tensor: Tensor, dtype: type) -> np.ndarray:
    return tensor.cpu().numpy().astype(dtype)
