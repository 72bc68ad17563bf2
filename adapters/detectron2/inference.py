"""From one resized image to its proposals, and from what the stages make of them to detections."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.structures import Boxes, Instances
from torch import Tensor

from adapters.contract import Prediction
from adapters.prediction.given_proposals import GivenProposals
from adapters.prediction.predict_image import Candidates, ProposedImage, predict_image
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.inference_stages import TestStage


def dense_outputs(model: GeneralizedRCNN, image: Tensor) -> list[Tensor]:
    """What backbone, neck and RPN head give of normalised images."""
    features, generator = model.backbone(image), model.proposal_generator
    logits, deltas = generator.rpn_head([features[name] for name in generator.in_features])
    return [*logits, *deltas]


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


@contextmanager
def noted_candidates(generator: RPN) -> Iterator[list[Callable[[], Candidates]]]:
    """Fill a list with what gives the candidates of proposals that are made while the block runs, of one image."""
    noted: list[Callable[[], Candidates]] = []
    propose = generator.predict_proposals

    def note(*arguments: Any) -> list[Instances]:
        noted.append(partial(candidates_of, generator, arguments))
        return propose(*arguments)

    generator.predict_proposals = note
    try:
        yield noted
    finally:
        del generator.predict_proposals


def candidates_of(generator: RPN, noted: tuple) -> Candidates:
    """What enters NMS of one image: the best of every level, from the arguments of ``predict_proposals``."""
    anchors, logits, deltas, sizes = noted
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
