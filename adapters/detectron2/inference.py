"""From one resized image to the detections of every test stage."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor

from adapters.contract import Detections, Prediction
from adapters.detectron2.candidates import candidates_of, noted_candidates
from adapters.masks import pasted
from adapters.observation import image_observation
from adapters.proposal_swaps import GivenProposals, swapped
from adapters.score_rules import boxes_and_scores
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.diagnostics.observations import ImageObservation
from cascadebench.test_stages import TestStage


@torch.inference_mode()
def predict_one(
    model: GeneralizedRCNN,
    record: ImageRecord,
    image: dict[str, Any],
    test_stages: Sequence[TestStage],
    given: GivenProposals | None = None,
) -> Prediction:
    """Run one resized image through the detector, which must be in evaluation mode, and read test stages off.

    It has its own proposals, or given ones.
    """
    images = model.preprocess_image([image])
    features = model.backbone(images.tensor)
    with noted_candidates(model.proposal_generator) as candidates:
        (proposed,), _ = model.proposal_generator(images, features, None)
    heads, size = model.roi_heads, images.image_sizes[0]
    boxes, objectness = proposed.proposal_boxes.tensor, proposed.objectness_logits.sigmoid()
    boxes, objectness = swapped(boxes, objectness, given, record, size)
    proposals = Instances(size, proposal_boxes=Boxes(boxes))
    outputs = heads.run_stages(features, proposals, test_stages)
    found = {}
    for stage, boxes, scores in boxes_and_scores(test_stages, outputs):
        detected = heads.detect(stage.boxes - 1, boxes, scores, size)
        if stage.label == getattr(heads, "mask_test_stage", None):
            boxes, labels = detected.pred_boxes.tensor, detected.pred_classes
            detected.mask_probabilities = heads.mask_probabilities(features, boxes, labels)
        found[stage.label] = on_original(detected, record)
    as_detections = Instances(
        size,
        pred_boxes=proposals.proposal_boxes.clone(),
        scores=objectness,
        pred_classes=torch.zeros_like(objectness, dtype=torch.long),
    )

    @torch.inference_mode()
    def observe(with_candidates: bool) -> ImageObservation:
        before_nms = candidates_of(model.proposal_generator, candidates[0]) if with_candidates else None
        original = partial(original_boxes, size=size, record=record)
        return image_observation(record.id, objectness, outputs, original, before_nms)

    @torch.inference_mode()
    def quality() -> dict[str, Detections]:
        cells = heads.quality(outputs, size)
        return {cell.label: on_original(heads.detect(cell.head - 1, *both, size), record) for cell, *both in cells}

    return Prediction(record.id, on_original(as_detections, record), found, observe, quality)


def original_boxes(boxes: Tensor, size: tuple[int, int], record: ImageRecord) -> Tensor:
    """Scale boxes [N, 4] from a resized image of this height and width to the original one and clip them to it."""
    scaled = Boxes(boxes.clone())
    scaled.scale(record.width / size[1], record.height / size[0])
    scaled.clip((record.height, record.width))
    return scaled.tensor


def on_original(detected: Instances, record: ImageRecord) -> Detections:
    """Scale boxes to the original image, clip them to it, drop what has no area, paste masks; `detected` is used up."""
    scaled = detector_postprocess(detected, record.height, record.width)
    boxes, masks = scaled.pred_boxes.tensor, None
    if scaled.has("mask_probabilities"):
        masks = pasted(scaled.mask_probabilities, boxes, record.width, record.height)
    return Detections(
        _array(boxes, np.float32), _array(scaled.scores, np.float32), _array(scaled.pred_classes, np.int64), masks
    )


def _array(tensor: Tensor, dtype: type) -> np.ndarray:
    return tensor.cpu().numpy().astype(dtype)
