"""From one resized image to the detections of every test stage."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from torch import Tensor

from adapters.contract import Detections, Prediction
from adapters.detectron2.candidates import candidates_of, noted_candidates
from adapters.prediction.given_proposals import GivenProposals, swapped
from adapters.prediction.image_observations import image_observation
from adapters.prediction.original_image import Rows, on_original
from adapters.prediction.score_rules import boxes_and_scores
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.diagnostics.observations import ImageObservation

PROPOSALS = "proposals"
"""Key of the proposals beside those of the test stages."""


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
    rows = {
        stage.label: rows_of(heads.detect(stage.boxes - 1, *both, size))
        for stage, *both in boxes_and_scores(test_stages, outputs)
    }
    masked, probabilities = getattr(heads, "mask_test_stage", None), None
    if masked in rows:
        boxes, _, labels = rows[masked]
        probabilities = heads.mask_probabilities(features, boxes, labels)
    none = torch.zeros_like(objectness, dtype=torch.long)
    rows[PROPOSALS] = (proposals.proposal_boxes.tensor, objectness, none)
    original = partial(original_boxes, size=size, record=record)
    found = on_original(rows, original, record, masked, probabilities)

    @torch.inference_mode()
    def observe(with_candidates: bool) -> ImageObservation:
        before_nms = candidates_of(model.proposal_generator, candidates[0]) if with_candidates else None
        return image_observation(record.id, objectness, outputs, original, before_nms)

    @torch.inference_mode()
    def quality() -> dict[str, Detections]:
        cells = heads.quality(outputs, size)
        rows = {cell.label: rows_of(heads.detect(cell.head - 1, *both, size)) for cell, *both in cells}
        return on_original(rows, original, record)

    return Prediction(record.id, found.pop(PROPOSALS), found, observe, quality)


def original_boxes(boxes: Tensor, size: tuple[int, int], record: ImageRecord) -> Tensor:
    """Scale boxes [N, 4] from a resized image of this height and width to the original one and clip them to it."""
    scaled = Boxes(boxes.clone())
    scaled.scale(record.width / size[1], record.height / size[0])
    scaled.clip((record.height, record.width))
    return scaled.tensor


def rows_of(detected: Instances) -> Rows:
    """Boxes, scores and labels."""
    return detected.pred_boxes.tensor, detected.scores, detected.pred_classes
