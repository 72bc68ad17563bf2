"""From one transformed image to its proposals, and from scores and boxes to detections."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.layers import multiclass_nms
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import Tensor, nn

from adapters.contract import Prediction
from adapters.prediction.given_proposals import GivenProposals
from adapters.prediction.original_image import Rows
from adapters.prediction.predict_image import Candidates, ProposedImage, predict_image
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.inference_stages import TestStage


def dense_outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    """What backbone, neck and RPN head give of normalised images."""
    scores, deltas = model.rpn_head(model.extract_feat(image))
    return [*scores, *deltas]


@torch.inference_mode()
def predict_one(
    model: nn.Module,
    record: ImageRecord,
    image: dict[str, Any],
    test_stages: Sequence[TestStage],
    given: GivenProposals | None = None,
) -> Prediction:
    """Run one transformed image through the detector, which must be in evaluation mode, and read test stages off.

    It has its own proposals, or given ones.
    """
    batch = model.data_preprocessor(pseudo_collate([image]), False)
    (sample,) = batch["data_samples"]
    features = model.extract_feat(batch["inputs"])
    with noted_candidates(model.rpn_head) as candidates:
        (proposed,) = model.rpn_head.predict(features, batch["data_samples"], rescale=False)
    seen = ProposedImage(
        features,
        sample.img_shape,
        proposed.bboxes,
        proposed.scores,
        candidates[0],
        detect=partial(detect, model),
        original_boxes=partial(original_boxes, factors=sample.scale_factor, record=record),
    )
    return predict_image(model.roi_head, seen, record, test_stages, given)


def detect(model: nn.Module, stage: int, boxes: Tensor, scores: Tensor) -> Rows:
    """Filter by score, suppress and keep the best; the numbers are the same at every stage."""
    config = model.test_cfg.rcnn
    if not len(boxes):  # a box for every class of no RoI is more than multiclass_nms can reshape
        boxes = boxes[:, :4]
    rows, labels = multiclass_nms(boxes, scores, config.score_thr, config.nms, config.max_per_img)
    return rows[:, :4], rows[:, 4], labels


def original_boxes(boxes: Tensor, factors: tuple[float, float], record: ImageRecord) -> Tensor:
    """Scale boxes [N, 4] back from an image resized by these factors and clip them to the original one."""
    boxes = boxes / boxes.new_tensor(factors).repeat(2)
    limits = boxes.new_tensor([record.width, record.height]).repeat(2)
    return torch.minimum(boxes.clamp(min=0), limits)


@contextmanager
def noted_candidates(rpn_head: RPNHead) -> Iterator[list[Callable[[], Candidates]]]:
    """Fill a list, image by image, with what gives the candidates of proposals that are made while the block runs."""
    noted: list[Callable[[], Candidates]] = []
    suppress = rpn_head._bbox_post_process

    def note(results: InstanceData, *others: Any, **named: Any) -> InstanceData:
        noted.append(partial(candidates_of, results))
        return suppress(results, *others, **named)

    rpn_head._bbox_post_process = note
    try:
        yield noted
    finally:
        del rpn_head._bbox_post_process


def candidates_of(noted: InstanceData) -> Candidates:
    """What enters NMS of one image: the best of every level that have an area."""
    kept = (noted.bboxes[:, 2:] > noted.bboxes[:, :2]).all(dim=1)
    return noted.bboxes[kept], noted.scores[kept], noted.level_ids[kept]
