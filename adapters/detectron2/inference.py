"""From one resized image to its proposals, and from what the stages make of them to detections."""

import math
from functools import partial
from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.structures import Boxes
from torch import Tensor

from adapters.prediction.predict_image import ProposedImage, RpnCandidates, noted
from cascadebench.datasets.prepared import ImageRecord


def dense_outputs(model: GeneralizedRCNN, image: Tensor) -> list[Tensor]:
    """What backbone, neck and RPN head give of normalised images."""
    features, generator = model.backbone(image), model.proposal_generator
    logits, deltas = generator.rpn_head([features[name] for name in generator.in_features])
    return [*logits, *deltas]


def proposed(model: GeneralizedRCNN, record: ImageRecord, image: dict[str, Any]) -> ProposedImage:
    """Run one resized image through the detector up to its proposals."""
    images, candidates = model.preprocess_image([image]), []
    features, size = model.backbone(images.tensor), images.image_sizes[0]
    with noted(model.proposal_generator, "predict_proposals", lambda _returned, *given: candidates.append(given)):
        (proposals,), _ = model.proposal_generator(images, features, None)
    return ProposedImage(
        features,
        size,
        proposals.proposal_boxes.tensor,
        proposals.objectness_logits.sigmoid(),
        partial(candidates_of, model.proposal_generator, *candidates[0]),
        detect=partial(model.roi_heads.detect, size=size),
        original_boxes=partial(original_boxes, size=size, record=record),
    )


def original_boxes(boxes: Tensor, size: tuple[int, int], record: ImageRecord) -> Tensor:
    """Scale boxes [N, 4] from a resized image of this height and width to the original one and clip them to it."""
    scaled = Boxes(boxes.clone())
    scaled.scale(record.width / size[1], record.height / size[0])
    scaled.clip((record.height, record.width))
    return scaled.tensor


def candidates_of(generator: RPN, anchors: list[Boxes], logits: list, deltas: list, sizes: list) -> RpnCandidates:
    """What enters NMS of one image: the best of every level, from the arguments of ``predict_proposals``."""
    number, found = generator.pre_nms_topk[False], []
    for boxes, scores in zip(generator._decode_proposals(anchors, deltas), logits, strict=True):
        # A level by itself, with an NMS that finds no overlap too great.
        (level,) = find_top_rpn_proposals(
            [boxes], [scores], sizes, math.inf, number, number, generator.min_box_size, training=False
        )
        found.append(level)
    boxes = torch.cat([level.proposal_boxes.tensor for level in found])
    scores = torch.cat([level.objectness_logits for level in found]).sigmoid()
    counts = torch.tensor([len(level) for level in found], device=boxes.device)
    return boxes, scores, torch.arange(len(found), device=boxes.device).repeat_interleave(counts)
