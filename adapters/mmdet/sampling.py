"""Decoupled sampling: classification and regression train on RoIs of their own.

Source: Wang et al., Decoupled R-CNN, TCSVT 2022, Section IV; details where it is silent: card ``decoupled_rcnn``.
"""

import copy
from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor

from adapters.mmdet.box_heads import without_empty
from adapters.mmdet.common_rules import CommonRulesRPNHead
from adapters.mmdet.stages import ControlledRoIHeads


@MODELS.register_module()
class TwoListRPN(RPNHead):
    """A proposal network that in training suppresses the same candidates twice.

    Parameters
    ----------
    train_nms_iou : list of two floats
        IoU of NMS for the proposals of classification and for those of regression.
    """

    def __init__(self, train_nms_iou: list[float], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.train_nms_iou = train_nms_iou

    def loss_and_predict(
        self, x: tuple[Tensor, ...], batch_data_samples: list[DetDataSample], proposal_cfg: dict[str, Any]
    ) -> tuple[dict[str, Any], list[tuple[InstanceData, InstanceData]]]:
        """Losses, and for every image proposals for classification and proposals for regression."""
        truth, ignored, metas = unpack_gt_instances(batch_data_samples)
        outputs = self(x)
        losses = self.loss_by_feat(*outputs, truth, metas, ignored)
        lists = []
        for overlap in self.train_nms_iou:
            config = copy.deepcopy(proposal_cfg)
            config["nms"]["iou_threshold"] = overlap
            lists.append(self.predict_by_feat(*outputs, batch_img_metas=metas, cfg=config))
        return losses, list(zip(*lists, strict=True))


@MODELS.register_module()
class CommonRulesTwoListRPN(TwoListRPN, CommonRulesRPNHead):
    """Two lists of proposals, under the common rules of both frameworks."""


@MODELS.register_module()
class DecoupledRoIHeads(ControlledRoIHeads):
    """Heads whose classifiers and regressors train on RoIs of their own; at test there is one list.

    ``train_cfg[0]`` has a ``regression_sampler`` beside its ``sampler``. Only boxes pass between stages, no gradient.
    """

    def init_assigner_sampler(self) -> None:
        """Build a matcher for every head, and the samplers of both tasks."""
        super().init_assigner_sampler()
        self.regression_sampler = TASK_UTILS.build(self.train_cfg[0].regression_sampler)

    def loss(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: list[tuple[InstanceData, InstanceData]],
        batch_data_samples: list[DetDataSample],
    ) -> dict[str, Tensor]:
        """Losses of all heads; of each image's two lists of proposals the first is for classification."""
        truth, _, metas = unpack_gt_instances(batch_data_samples)
        classification, regression = [], []
        for (first, second), given in zip(rpn_results_list, truth, strict=True):
            # Image by image and in this order: both draw from one stream of random numbers.
            classification.append(self._sampled(0, self.bbox_sampler[0], first.bboxes, given))
            self._tell(0, second.bboxes, given)
            regression.append(self._sampled(0, self.regression_sampler, second.bboxes, given))
        losses = {}
        for stage, (head, weight) in enumerate(zip(self.bbox_head, self.stage_loss_weights, strict=True)):
            if head.with_cls:
                loss, seen = self._classification(stage, x, classification)
                losses[f"s{stage}.loss_cls"] = weight * loss
            loss, moved = self._regression(stage, x, regression, metas)
            losses[f"s{stage}.loss_bbox"] = weight * loss
            if stage + 1 == len(self.bbox_head):
                break
            for boxes, given in zip(moved, truth, strict=True):
                self._tell(stage + 1, without_empty(boxes), given)
            regression = self._matched_again(stage + 1, moved, truth)
            if self.bbox_head[stage + 1].with_cls:
                moved = self._all_moved(stage, *seen, classification, metas)
                classification = self._matched_again(stage + 1, moved, truth)
        return losses

    def _tell(self, stage: int, boxes: Tensor, truth: InstanceData) -> None:
        """Tell the recording, if there is one, which boxes of an image enter a regressor."""
        if self.recording is not None:
            self.recording.add(stage, boxes, truth.bboxes)

    def _sampled(self, stage: int, sampler: Any, boxes: Tensor, truth: InstanceData) -> SamplingResult:
        """Match boxes of one image with its ground truth and choose among them."""
        given = InstanceData(priors=boxes)
        return sampler.sample(self.bbox_assigner[stage].assign(given, truth), given, truth)

    def _matched_again(self, stage: int, boxes: list[Tensor], truth: list[InstanceData]) -> list[SamplingResult]:
        """Let boxes enter a later stage, without the empty ones."""
        pairs = zip(boxes, truth, strict=True)
        return [self._sampled(stage, self.bbox_sampler[stage], without_empty(own), given) for own, given in pairs]

    def _classification(
        self, stage: int, x: tuple[Tensor, ...], samples: list[SamplingResult]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Loss of a classifier on its RoIs; their pooled features and logits."""
        head, rois = self.bbox_head[stage], bbox2roi([sample.priors for sample in samples])
        pooled = self.pooled(stage, x, rois)
        logits = head.classify(pooled)
        found = head.loss_and_target(logits, None, rois, samples, self.train_cfg[stage])["loss_bbox"]
        # MMDetection leaves the term out where there is no RoI.
        return found.get("loss_cls", logits.sum()), (pooled.detach(), logits.detach())

    def _regression(
        self, stage: int, x: tuple[Tensor, ...], samples: list[SamplingResult], metas: list[dict]
    ) -> tuple[Tensor, list[Tensor]]:
        """Loss of a regressor on its RoIs, which all count in the divisor; and its positives moved, negatives not."""
        head, rois = self.bbox_head[stage], bbox2roi([sample.priors for sample in samples])
        pooled = self.pooled(stage, x, rois)
        deltas = head.regress(pooled)
        loss = head.loss_and_target(None, deltas, rois, samples, self.train_cfg[stage])["loss_bbox"]["loss_bbox"]
        if stage + 1 == self.num_stages:
            return loss, []
        with torch.no_grad():
            logits = None if head.reg_class_agnostic else head.classify(pooled)
            moved = self._moved_by(stage, [sample.priors for sample in samples], deltas.detach(), logits, metas)
        positives = [len(sample.pos_priors) for sample in samples]
        return loss, [
            torch.cat([own[:number], sample.neg_priors])
            for own, number, sample in zip(moved, positives, samples, strict=True)
        ]

    @torch.no_grad()
    def _all_moved(
        self, stage: int, pooled: Tensor, logits: Tensor, samples: list[SamplingResult], metas: list[dict]
    ) -> list[Tensor]:
        """Classification RoIs as the stage's regressor moves them, image by image."""
        deltas = self.bbox_head[stage].regress(pooled)
        return self._moved_by(stage, [sample.priors for sample in samples], deltas, logits, metas)

    def _moved_by(
        self, stage: int, boxes: list[Tensor], deltas: Tensor, logits: Tensor | None, metas: list[dict]
    ) -> list[Tensor]:
        """Move every image's boxes; `deltas` and `logits` are those of the whole batch."""
        sizes = [len(own) for own in boxes]
        chosen = [None] * len(boxes) if logits is None else logits.split(sizes)
        rows = zip(boxes, deltas.split(sizes), chosen, metas, strict=True)
        return [self.bbox_head[stage].moved(own, d, c, meta["img_shape"]) for own, d, c, meta in rows]
