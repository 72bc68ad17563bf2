"""From the proposals of one image to the detections of every test stage, on the original image.

It is the same in every framework.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from adapters.detector.cascade_stages import CascadeStages
from adapters.layers.instance_masks import pasted
from adapters.prediction.given_proposals import GivenProposals, swapped
from adapters.prediction.score_rules import StageOutputs, boxes_and_scores, one_box_each
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.diagnostics.observations import Candidates, ImageObservation, StagePrediction

PROPOSALS = "proposals"
"""Key of the proposals beside those of the test stages."""

RpnCandidates = tuple[Tensor, Tensor, Tensor]
"""What the RPN's NMS chooses proposals from: boxes [N, 4] in pixels of the resized image, scores [N] and levels [N]."""

Rows = tuple[Tensor, Tensor, Tensor]
"""Boxes, float32 [N, 4] in pixels of the resized image, scores [N] and labels [N]."""


@dataclass(frozen=True)
class Detections:
    """Detections of one test stage on one image.

    Attributes
    ----------
    boxes : ndarray, float32 [N, 4]
        x1, y1, x2, y2 in pixels of the original image.
    scores : ndarray, float32 [N]
        In [0, 1].
    labels : ndarray, int64 [N]
        Position of the category in the dataset card, from 0.
    masks : sequence of str or None
        For every box the run lengths of its mask over the original image, in COCO's text
        (:mod:`cascadebench.datasets.masks`); None: this test stage has no masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: Sequence[str] | None = None


@dataclass(frozen=True)
class Prediction:
    """Everything that one pass over one image gives.

    Attributes
    ----------
    image_id : int
        Image id of the annotation file.
    proposals : Detections
        RPN proposals; scores are objectness in [0, 1], labels are all 0.
    test_stages : dict of str to Detections
        By label of the test stage (:class:`cascadebench.detectors.inference_stages.TestStage`).
    observe : callable or None
        Gives the RoIs and boxes of every stage of the same pass, and the RPN's candidates if its argument is true.
    quality : callable or None
        Gives detections of every whole head (classifier and regressor) on the RoIs of every stage, by label of the cell
        (:class:`cascadebench.diagnostics.observations.QualityStage`); none with one regressor in a row.

    The two are called apart, so that they have no part in the time of a prediction. They hold what the stages gave:
    drop them when they have been called.
    """

    image_id: int
    proposals: Detections
    test_stages: dict[str, Detections]
    observe: Callable[[bool], ImageObservation] | None = None
    quality: Callable[[], dict[str, Detections]] | None = None


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
    candidates: Callable[[], RpnCandidates]
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


def on_original(
    found: Mapping[str, Rows],
    original_boxes: Callable[[Tensor], Tensor],
    record: ImageRecord,
    masked: str | None = None,
    probabilities: Tensor | None = None,
) -> dict[str, Detections]:
    """Scale boxes to the original image and drop what has no area.

    Everything goes at once: by itself, every test stage would take as many small steps and copies from the device.

    Parameters
    ----------
    found : mapping of str to Rows
        By test stage, for instance.
    original_boxes : callable
        From boxes [N, 4] in pixels of the resized image to the same boxes in the original one, clipped, row by row.
    masked : str or None
        Which of `found` has masks: `probabilities`, float32 [N, 28, 28], are pasted at what its boxes have become.
    """
    if not found:
        return {}
    boxes, scores, labels = (torch.cat(parts) for parts in zip(*found.values(), strict=True))
    boxes = original_boxes(boxes)
    keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    arrays = [part.cpu().numpy() for part in (keep, boxes, scores, labels)]
    detections, start = {}, 0
    for name, (_, _, own_labels) in found.items():
        rows = slice(start, start + len(own_labels))
        start = rows.stop
        kept, own_boxes, own_scores, own_labels = (array[rows] for array in arrays)
        detections[name] = Detections(
            own_boxes[kept].astype(np.float32),
            own_scores[kept].astype(np.float32),
            own_labels[kept].astype(np.int64),
            pasted(probabilities[keep[rows]], boxes[rows][keep[rows]], record.width, record.height)
            if name == masked
            else None,
        )
    return detections


def image_observation(
    image_id: int,
    objectness: Tensor,
    outputs: StageOutputs,
    on_original: Callable[[Tensor], Tensor],
    candidates: RpnCandidates | None,
) -> ImageObservation:
    """Gather what one pass over an image gave, as arrays.

    Parameters
    ----------
    objectness : Tensor, float32 [R]
        Of the proposals, which are the RoIs of the first stage.
    outputs : StageOutputs
        With RoIs.
    on_original : callable
        From boxes [N, 4] in pixels of the resized image to the same boxes in the original one, row by row.
    candidates : (boxes [N, 4], scores [N], levels [N]) or None
        Of the RPN before its NMS, in pixels of the resized image.
    """
    stages = []
    for number in range(max(len(outputs.boxes), len(outputs.logits))):
        boxes, logits = (part[number] if number < len(part) else None for part in (outputs.boxes, outputs.logits))
        # Classifiers beyond the regressors read the RoIs of the last one.
        rois = outputs.rois[min(number, len(outputs.rois) - 1)]
        stages.append(
            StagePrediction(
                _array(on_original(rois)),
                None if boxes is None else _array(on_original(one_box_each(boxes, logits))),
                None if logits is None else _array(logits.softmax(-1)),
            )
        )
    kept = None
    if candidates is not None:
        boxes, scores, levels = candidates
        kept = Candidates(_array(on_original(boxes)), _array(scores), levels.cpu().numpy())
    return ImageObservation(image_id, stages[0].rois, _array(objectness), tuple(stages), kept)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


@contextmanager
def noted(owner: Any, method: str, note: Callable[..., None]) -> Iterator[None]:
    """Note what a method gives and is given while the block runs: what it returned, then its arguments."""
    plain = getattr(owner, method)

    def noting(*arguments: Any, **named: Any) -> Any:
        returned = plain(*arguments, **named)
        note(returned, *arguments, **named)
        return returned

    with patch.object(owner, method, noting):
        yield
