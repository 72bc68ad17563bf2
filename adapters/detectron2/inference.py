"""From one resized image to its proposals, and from what the stages make of them to detections."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes
from torch import Tensor

from adapters.contract import Prediction
from adapters.detectron2.candidates import noted_candidates
from adapters.prediction.given_proposals import GivenProposals
from adapters.prediction.predict_image import ProposedImage, predict_image
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.inference_stages import TestStage


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
    features, size = model.backbone(images.tensor), images.image_sizes[0]
    with noted_candidates(model.proposal_generator) as candidates:
        (proposed,), _ = model.proposal_generator(images, features, None)
    seen = ProposedImage(
        features,
        size,
        proposed.proposal_boxes.tensor,
        proposed.objectness_logits.sigmoid(),
        candidates[0],
        detect=partial(model.roi_heads.detect, size=size),
        original_boxes=partial(original_boxes, size=size, record=record),
    )
    return predict_image(model.roi_heads, seen, record, test_stages, given)


def original_boxes(boxes: Tensor, size: tuple[int, int], record: ImageRecord) -> Tensor:
    """Scale boxes [N, 4] from a resized image of this height and width to the original one and clip them to it."""
    scaled = Boxes(boxes.clone())
    scaled.scale(record.width / size[1], record.height / size[0])
    scaled.clip((record.height, record.width))
    return scaled.tensor
