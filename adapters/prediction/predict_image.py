"""From the proposals of one image to the detections of every test stage; the same in every framework."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.contract import Detections, Prediction
from adapters.detector.cascade_stages import CascadeStages
from adapters.prediction.given_proposals import GivenProposals, swapped
from adapters.prediction.image_observations import image_observation
from adapters.prediction.original_image import Rows, on_original
from adapters.prediction.score_rules import boxes_and_scores
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.diagnostics.observations import ImageObservation

PROPOSALS = "proposals"
"""Key of the proposals beside those of the test stages."""

Candidates = tuple[Tensor, Tensor, Tensor]
"""What the RPN's NMS chooses proposals from: boxes [N, 4] in pixels of the resized image, scores [N] and levels [N]."""


@dataclass(frozen=True)
class ProposedImage:
    """An image as a framework has seen it up to the proposals, and what the framework does after the stages.

    Attributes
    ----------
    features
        What :meth:`~adapters.detector.cascade_stages.CascadeStages.run_stages` takes.
    size : tuple of int
        Height and width of the resized image.
    proposals : Tensor, float32 [R, 4]
        The detector's own, in pixels of the resized image.
    objectness : Tensor, float32 [R]
        In [0, 1].
    candidates : callable
        Gives what the proposals were chosen from.
    detect : callable
        From the place in the row of test, from 0, boxes [R, 4 or 4 * classes] and probabilities [R, classes + 1] to
        detections: filters by score, suppresses and keeps the best.
    original_boxes : callable
        Scales boxes [N, 4] to the original image and clips them to it, row by row.
    """

    features: Any
    size: tuple[int, int]
    proposals: Tensor
    objectness: Tensor
    candidates: Callable[[], Candidates]
    detect: Callable[[int, Tensor, Tensor], Rows]
    original_boxes: Callable[[Tensor], Tensor]


def predict_image(
    heads: CascadeStages,
    image: ProposedImage,
    record: ImageRecord,
    test_stages: Sequence[TestStage],
    given: GivenProposals | None = None,
) -> Prediction:
    """Run the stages on an image's own proposals, or on given ones, and read the test stages off."""
    proposals, objectness = swapped(image.proposals, image.objectness, given, record, image.size)
    outputs = heads.run_stages(image.features, proposals, image.size, test_stages)
    rows = {
        stage.label: image.detect(stage.boxes - 1, *both) for stage, *both in boxes_and_scores(test_stages, outputs)
    }
    masked, probabilities = heads.mask_test_stage, None
    if masked in rows:
        boxes, _, labels = rows[masked]
        probabilities = heads.mask_probabilities(image.features, boxes, labels)
    rows[PROPOSALS] = (proposals, objectness, torch.zeros_like(objectness, dtype=torch.long))
    detections = on_original(rows, image.original_boxes, record, masked, probabilities)

    @torch.inference_mode()
    def observe(with_candidates: bool) -> ImageObservation:
        before_nms = image.candidates() if with_candidates else None
        return image_observation(record.id, objectness, outputs, image.original_boxes, before_nms)

    @torch.inference_mode()
    def quality() -> dict[str, Detections]:
        cells = heads.quality(outputs, image.size)
        rows = {cell.label: image.detect(cell.head - 1, *both) for cell, *both in cells}
        return on_original(rows, image.original_boxes, record)

    return Prediction(record.id, detections.pop(PROPOSALS), detections, observe, quality)
