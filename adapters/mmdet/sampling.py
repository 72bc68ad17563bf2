"""RoIs of their own for classification and regression: two lists of proposals, two samples."""

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

from adapters.detector.decoupled_stages import DecoupledStages, Task
from adapters.mmdet.box_heads import without_empty
from adapters.mmdet.rules import CommonRulesRPNHead
from adapters.mmdet.stages import ControlledRoIHeads

LOSSES = {"classification": "loss_cls", "regression": "loss_bbox"}
"""MMDetection's names of the tasks' losses."""


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
class DecoupledRoIHeads(DecoupledStages, ControlledRoIHeads):
    """Heads whose classifiers and regressors train on RoIs of their own; at test there is one list.

    ``train_cfg[0]`` has a ``regression_sampler`` beside its ``sampler``.
    """

    def __init__(self, moved_by: str = "predicted_class", **keywords: Any) -> None:
        super().__init__(**keywords)
        self.moved_by = moved_by

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
            classification.append(self._sampled(0, self.bbox_sampler[0], first.bboxes, given))
            self._tell(0, second.bboxes, given)
            regression.append(self._sampled(0, self.regression_sampler, second.bboxes, given))
        losses = self.train_apart(x, classification, regression, truth, [meta["img_shape"] for meta in metas])
        return {f"s{stage}.{LOSSES[task]}": loss for (task, stage), loss in losses.items()}

    def _tell(self, stage: int, boxes: Tensor, truth: InstanceData) -> None:
        """Tell the recording, if there is one, which boxes of an image enter a regressor."""
        if self.recording is not None:
            self.recording.add(stage, boxes, truth.bboxes)

    def _sampled(self, stage: int, sampler: Any, boxes: Tensor, truth: InstanceData) -> SamplingResult:
        """Match boxes of one image with its ground truth and choose among them."""
        given = InstanceData(priors=boxes)
        return sampler.sample(self.bbox_assigner[stage].assign(given, truth), given, truth)

    def pooled_rois(self, stage: int, features: tuple[Tensor, ...], rois: list[SamplingResult]) -> Tensor:
        """Pool the RoIs of all images for a stage."""
        return self.pooled(stage, features, bbox2roi([own.priors for own in rois]))

    def task_output(self, task: Task, stage: int, pooled: Tensor) -> Tensor:
        """Logits or deltas of pooled RoIs."""
        head = self.bbox_head[stage]
        return head.classify(pooled) if task == "classification" else head.regress(pooled)

    def task_loss(self, task: Task, stage: int, output: Tensor, rois: list[SamplingResult]) -> Tensor:
        """Loss of one task of a stage, with its weight."""
        outputs = (output, None) if task == "classification" else (None, output)
        boxes = bbox2roi([own.priors for own in rois])
        losses = self.bbox_head[stage].loss_and_target(*outputs, boxes, rois, self.train_cfg[stage])["loss_bbox"]
        # MMDetection leaves the classification's term out where there is no RoI.
        return self.stage_loss_weights[stage] * losses.get(LOSSES[task], output.sum())

    def boxes_and_labels(self, rois: SamplingResult) -> tuple[Tensor, Tensor]:
        """Boxes of an image's RoIs, positives first, and their labels."""
        return rois.priors, torch.cat([rois.pos_gt_labels, rois.neg_inds.new_full((len(rois.neg_inds),), -1)])

    def matched_again(
        self, task: Task, stage: int, boxes: list[Tensor], truth: list[InstanceData]
    ) -> list[SamplingResult]:
        """Let boxes enter a later stage, without the empty ones."""
        pairs = [(without_empty(own), given) for own, given in zip(boxes, truth, strict=True)]
        if task == "regression":
            for own, given in pairs:
                self._tell(stage, own, given)
        return [self._sampled(stage, self.bbox_sampler[stage], own, given) for own, given in pairs]
