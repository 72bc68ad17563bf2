"""The stages of a detector under control: how they train, and everything that they give at test time."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.models.task_modules.assigners import AssignResult, MaxIoUAssigner
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.model import ModuleList
from mmengine.structures import InstanceData
from torch import Tensor

from adapters.prediction.score_rules import StageOutputs, asks_for_last_rois
from adapters.training.stage_recording import StageRecording
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.diagnostics.quality_matrix import QualityStage, quality_stages


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


@MODELS.register_module()
class ControlledCascadeRoIHead(CascadeRoIHead):
    """Heads in a row; one head is Faster R-CNN.

    There is a head for every stage and every classifier: heads beyond ``num_stages`` are further classifiers of the
    first stage's RoIs.

    Parameters
    ----------
    trunk_gradient : list of float
        For every stage the factor on the gradient that flows from its pooled features into neck and backbone.
    applications : int
        How often the last head is applied in a row at test.
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
    def regressors(self) -> int:
        """Regressors in a row at test."""
        return self.num_stages - 1 + self.applications

    @property
    def classifiers(self) -> int:
        """Classifiers at test."""
        return sum(head.with_cls for head in self.bbox_head) - 1 + self.applications

    def stage_forward(self, stage: int, pooled: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What a stage makes of pooled RoIs; the one method that a variant with other layers replaces.

        Parameters
        ----------
        stage : int
            From 0.
        pooled : Tensor, float [R, channels, size, size]

        Returns
        -------
        logits : Tensor, float [R, classes + 1], or None
            Background last. Several classifiers of the same RoIs stand side by side. None: no classifier.
        deltas : Tensor, float [R, 4 or 4 * classes], or None
        """
        return self.bbox_head[stage](pooled)

    def pooled(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """Pool RoIs [R, 5] of a batch for a stage; the gradient goes back with the stage's factor."""
        extractor = self.bbox_roi_extractor[stage]
        features = extractor(x[: extractor.num_inputs], rois)
        factor = self.trunk_gradient[stage]
        if features.requires_grad and factor != 1:
            features.register_hook(lambda gradient: gradient * factor)
        return features

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Any]:
        features = self.pooled(stage, x, rois)
        logits, deltas = self.stage_forward(stage, features)
        first, *further = self._one_by_one(logits) or [None]
        return {"cls_score": first, "further_scores": further, "bbox_pred": deltas, "bbox_feats": features}

    def _one_by_one(self, logits: Tensor | None) -> list[Tensor]:
        """Take the classifiers' logits apart."""
        return [] if logits is None else list(logits.split(self.bbox_head[0].num_classes + 1, dim=1))

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

    def run_stages(
        self,
        features: tuple[Tensor, ...],
        proposals: Tensor,
        image_shape: tuple[int, int],
        test_stages: Sequence[TestStage],
    ) -> StageOutputs:
        """Run every stage on one image; nothing is filtered between stages, so that row n is proposal n throughout.

        Parameters
        ----------
        features : tuple of tensors, float [1, channels, h, w]
            Levels of the pyramid.
        proposals : Tensor, float [R, 4]
            In pixels of the resized image.
        image_shape : tuple of int
            Height and width of the resized image without padding.
        test_stages : sequence of TestStage
            What is asked for; the classifiers run on the last stage's RoIs only if one of them needs it.
        """
        outputs = StageOutputs([], [], [])
        entering = proposals
        for number in range(self.regressors):
            stage = self._trained(number)
            pooled = self._pooled_alone(stage, features, entering)
            outputs.rois.append(entering)
            outputs.pooled.append(pooled)
            found, deltas = self.stage_forward(stage, pooled)
            logits = self._one_by_one(found)
            outputs.logits.extend(logits)
            head = self.bbox_head[stage]
            outputs.boxes.append(head.bbox_coder.decode(entering, deltas, max_shape=image_shape))
            if head.reg_class_agnostic:
                entering = outputs.boxes[-1]
            elif number + 1 < self.regressors:
                entering = head.moved(entering, deltas, logits[0] if logits else None, image_shape)
        if asks_for_last_rois(test_stages):
            for number in range(self.classifiers):
                own = number + 1 == self.regressors
                again = outputs.logits[-1] if own else self.stage_forward(self._trained(number), pooled)[0]
                outputs.last_logits.append(again)
        return outputs

    def quality(
        self, outputs: StageOutputs, image_shape: tuple[int, int]
    ) -> Iterator[tuple[QualityStage, Tensor, Tensor]]:
        """Run every whole head on the RoIs of every stage of one image; there is nothing to run with one stage.

        Parameters
        ----------
        outputs : StageOutputs
            Of :meth:`run_stages`; what it has already is not computed again.
        image_shape : tuple of int
            Height and width of the resized image without padding.

        Yields
        ------
        QualityStage, boxes [R, 4 or 4 * classes], probabilities [R, classes + 1]
        """
        whole = sum(head.with_cls and head.with_reg for head in self.bbox_head)
        for cell in quality_stages(whole, self.regressors) if self.regressors > 1 else ():
            head, place = cell.head - 1, cell.stage - 1
            if head == self._trained(place):
                boxes, logits = outputs.boxes[place], outputs.logits[place]
            else:
                logits, deltas = self.stage_forward(head, outputs.pooled[place])
                boxes = self.bbox_head[head].bbox_coder.decode(outputs.rois[place], deltas, max_shape=image_shape)
            yield cell, boxes, logits.softmax(-1)

    def _trained(self, stage: int) -> int:
        """The trained stage that is run as one of those at test."""
        return min(stage, self.num_stages - 1)

    def _pooled_alone(self, stage: int, features: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
        """Pool the boxes of one image."""
        extractor = self.bbox_roi_extractor[stage]
        return extractor(features[: extractor.num_inputs], torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1))


def _overlaps(sampling_results: list) -> Tensor:
    """IoU of every positive RoI of a batch with its ground truth; 0 for a negative one."""
    parts = []
    for result in sampling_results:
        parts.append(bbox_overlaps(result.pos_priors, result.pos_gt_bboxes, is_aligned=True))
        parts.append(result.neg_priors.new_zeros(len(result.neg_priors)))
    return torch.cat(parts)
