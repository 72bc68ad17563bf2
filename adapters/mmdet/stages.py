"""The stages of a detector under control: how they train, and everything that they give at test time."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.models.task_modules.assigners import AssignResult, MaxIoUAssigner
from mmdet.models.task_modules.samplers import PseudoSampler, SamplingResult
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, bbox_overlaps
from mmengine.model import ModuleList
from mmengine.structures import InstanceData
from torch import Tensor

from adapters.detector.cascade_stages import CascadeStages, scaled_gradient
from adapters.training.stage_recording import StageRecording


@TASK_UTILS.register_module()
class StageAssigner(MaxIoUAssigner):
    """MMDetection's assigner, which tells what it is given.

    Attributes
    ----------
    tell : callable or None
        Called with the RoIs of an image, float [R, 4], and its ground truth, float [G, 4], before they are matched.
    """

    tell: Callable[[Tensor, Tensor], None] | None = None

    def assign(
        self, pred_instances: InstanceData, gt_instances: InstanceData, *others: Any, **named: Any
    ) -> AssignResult:
        """Match the RoIs of an image with its ground truth."""
        if self.tell is not None:
            self.tell(pred_instances.priors, gt_instances.bboxes)
        return super().assign(pred_instances, gt_instances, *others)


@TASK_UTILS.register_module()
class BoxesAndGroundTruth(PseudoSampler):
    """Takes all boxes of an image, and its ground truth beside them."""

    def sample(
        self, assign_result: AssignResult, pred_instances: InstanceData, gt_instances: InstanceData, **named: Any
    ) -> SamplingResult:
        """Choose everything."""
        assign_result.add_gt_(gt_instances.labels)  # before the boxes
        boxes = torch.cat([gt_instances.bboxes, pred_instances.priors])
        return super().sample(assign_result, InstanceData(priors=boxes), gt_instances)


@MODELS.register_module()
class ControlledRoIHeads(CascadeStages, CascadeRoIHead):
    """Heads in a row; one head is Faster R-CNN.

    There is a head for every stage and every classifier: heads beyond ``num_stages`` are further classifiers of the
    first stage's RoIs.

    Parameters
    ----------
    trunk_gradient : list of float
        For every stage the factor on the gradient that flows from its pooled features into neck and backbone.
    applications : int
        How often the row of heads is run through at test.
    keywords
        Of MMDetection's cascade; ``num_stages`` is the number of heads with a regressor.
    """

    def __init__(self, trunk_gradient: list[float], applications: int = 1, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.trunk_gradient, self.applications = trunk_gradient, applications
        self.recording: StageRecording | None = None

    def init_bbox_head(self, bbox_roi_extractor: dict[str, Any], bbox_head: list[dict[str, Any]]) -> None:
        """Build the heads, and an extractor for each stage."""
        extractors = [MODELS.build(bbox_roi_extractor) for _ in range(self.num_stages)]
        self.bbox_roi_extractor = ModuleList(extractors)
        self.bbox_head = ModuleList([MODELS.build(head) for head in bbox_head])

    @property
    def tasks(self) -> list[tuple[bool, bool]]:
        """Of every head whether it classifies and whether it regresses."""
        return [(head.with_cls, head.with_reg) for head in self.bbox_head]

    def stage_forward(self, stage: int, pooled: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What a stage makes of pooled RoIs: logits and deltas."""
        return self.bbox_head[stage](pooled)

    def pooled(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """Pool RoIs [R, 5] of a batch for a stage; the gradient goes back with the stage's factor."""
        extractor = self.bbox_roi_extractor[stage]
        return scaled_gradient(extractor(x[: extractor.num_inputs], rois), self.trunk_gradient[stage])

    def held(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels of the pyramid, finest first."""
        return tuple(levels)

    def pooled_alone(self, stage: int, features: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
        """Pool the boxes of one image."""
        return self.pooled(stage, features, bbox2roi([boxes]))

    def decoded(self, stage: int, boxes: Tensor, deltas: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes of a stage's regressor on one image, clipped to it: float32 [R, 4 or 4 * classes]."""
        return self.bbox_head[stage].bbox_coder.decode(boxes, deltas, max_shape=size)

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Any]:
        features = self.pooled(stage, x, rois)
        logits, deltas = self.stage_outputs(stage, features)
        first, *further = logits or [None]
        return {"cls_score": first, "further_scores": further, "bbox_pred": deltas, "bbox_feats": features}

    def loss(
        self, x: tuple[Tensor, ...], rpn_results_list: list[InstanceData], batch_data_samples: list[DetDataSample]
    ) -> dict[str, Tensor]:
        """Losses of all stages; the matchers tell the recording, if there is one, what enters."""
        for stage, assigner in enumerate(self.bbox_assigner[: self.num_stages]):
            assigner.tell = self.recording and partial(self.recording.add, stage)
        return super().loss(x, rpn_results_list, batch_data_samples)

    def bbox_loss(self, stage: int, x: tuple[Tensor, ...], sampling_results: list) -> dict[str, Any]:
        """Run a stage on its RoIs and add up its losses; without a RoI they are zero."""
        results = super().bbox_loss(stage, x, sampling_results)
        losses, scores = results["loss_bbox"], results["cls_score"]
        if scores is not None:
            losses.setdefault("loss_cls", scores.sum())
        for number, logits in enumerate(results["further_scores"], start=stage + 1):
            labels, weights = results["bbox_targets"][:2]
            head, threshold = self.bbox_head[number], self.bbox_assigner[number].pos_iou_thr
            labels = torch.where(_overlaps(sampling_results) < threshold, head.num_classes, labels)
            found = head.loss(logits, None, results["rois"], labels, weights, None, None)
            losses[f"loss_cls{number + 1}"] = found.get("loss_cls", logits.sum())
        return results


def _overlaps(sampling_results: list) -> Tensor:
    """IoU of every positive RoI of a batch with its ground truth; 0 for a negative one."""
    parts = []
    for result in sampling_results:
        parts.append(bbox_overlaps(result.pos_priors, result.pos_gt_bboxes, is_aligned=True))
        parts.append(result.neg_priors.new_zeros(len(result.neg_priors)))
    return torch.cat(parts)
