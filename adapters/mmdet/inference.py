"""From one transformed image to its proposals, and from scores and boxes to detections."""

from functools import partial
from typing import Any

import torch
from mmdet.models.layers import multiclass_nms
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import Tensor, nn

from adapters.prediction.predict_image import ProposedImage, Rows, RpnCandidates, noted
from cascadebench.datasets.prepared import ImageRecord


def dense_outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    """What backbone, neck and RPN head give of normalised images."""
    scores, deltas = model.rpn_head(model.extract_feat(image))
    return [*scores, *deltas]


def proposed(model: nn.Module, record: ImageRecord, image: dict[str, Any]) -> ProposedImage:
    """Run one transformed image through the detector up to its proposals."""
    batch = model.data_preprocessor(pseudo_collate([image]), False)
    (sample,) = batch["data_samples"]
    features, candidates = model.extract_feat(batch["inputs"]), []

    def note(_returned: InstanceData, results: InstanceData, *_others: Any, **_named: Any) -> None:
        candidates.append(results)

    with noted(model.rpn_head, "_bbox_post_process", note):
        (proposals,) = model.rpn_head.predict(features, batch["data_samples"], rescale=False)
    return ProposedImage(
        features,
        sample.img_shape,
        proposals.bboxes,
        proposals.scores,
        partial(candidates_of, *candidates),
        detect=partial(detect, model),
        original_boxes=partial(original_boxes, factors=sample.scale_factor, record=record),
    )


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


def candidates_of(results: InstanceData) -> RpnCandidates:
    """What enters NMS of one image: the best of every level that have an area."""
    kept = (results.bboxes[:, 2:] > results.bboxes[:, :2]).all(dim=1)
    return results.bboxes[kept], results.scores[kept], results.level_ids[kept]
