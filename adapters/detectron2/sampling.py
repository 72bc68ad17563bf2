"""RoIs of their own for classification and for regression: two lists of proposals, two samples.

Source: Wang et al., Decoupled R-CNN, Section IV.A, Fig. 5, and Table I.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.modeling.roi_heads import ROIHeads
from detectron2.structures import Boxes, Instances
from torch import Tensor

from adapters.detector.decoupled_stages import DecoupledStages, Task
from adapters.detectron2.box_heads import layers_of
from adapters.detectron2.rules import SharedSamplingRPN
from adapters.detectron2.stages import ControlledRoIHeads

LOSSES = {"classification": "loss_cls", "regression": "loss_box_reg"}
"""Detectron2's names of the tasks' losses."""


class TwoListRPN(SharedSamplingRPN):
    """An RPN that in training gives every image a pair of proposals, for classification and for regression.

    Parameters
    ----------
    train_nms_thresh : sequence of two floats
        IoU of the NMS of either list; the candidates are the same. In testing there is one list, by ``nms_thresh``.
    """

    def __init__(self, *, train_nms_thresh: Sequence[float], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.train_nms_thresh = [float(threshold) for threshold in train_nms_thresh]

    @torch.no_grad()
    def predict_proposals(
        self, anchors: list[Boxes], pred_objectness_logits: list[Tensor], pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances] | list[tuple[Instances, Instances]]:  # fmt: skip
        """Decode, suppress and cut; Detectron2 calls this with these names."""
        if not self.training:
            return super().predict_proposals(anchors, pred_objectness_logits, pred_anchor_deltas, image_sizes)
        decoded = self._decode_proposals(anchors, pred_anchor_deltas)
        lists = [
            find_top_rpn_proposals(
                decoded, pred_objectness_logits, image_sizes, threshold, self.pre_nms_topk[True],
                self.post_nms_topk[True], self.min_box_size, training=True,
            )
            for threshold in self.train_nms_thresh
        ]  # fmt: skip
        return list(zip(*lists, strict=True))


class DecoupledRoIHeads(DecoupledStages, ControlledRoIHeads):
    """Heads whose classifiers and regressors train on RoIs of their own; at test there is one list.

    Classification RoIs are sampled by Detectron2's rules, regression RoIs by ``regression_sampler``. Negatives have no
    part in Detectron2's regression loss but in its divisor.

    Parameters
    ----------
    regression_sampler : ROIHeads
        Matches and samples the RoIs of the first regressor.
    """

    def __init__(self, *, regression_sampler: ROIHeads, moved_by: str = "predicted_class", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.regression_sampler, self.moved_by = regression_sampler, moved_by

    def tell(self, stage: int, proposals: list[Instances], targets: list[Instances]) -> None:
        """Tell nothing: the same methods match for both tasks, and a recording is of the regressors' RoIs."""

    def label_and_sample_proposals(
        self, proposals: list[tuple[Instances, Instances]], targets: list[Instances]
    ) -> list[tuple[Instances, Instances]]:
        """Sample both lists of every image."""
        for_classification, for_regression = map(list, zip(*proposals, strict=True))
        classification = super().label_and_sample_proposals(for_classification, targets)
        super().tell(0, for_regression, targets)
        regression = self.regression_sampler.label_and_sample_proposals(for_regression, targets)
        return list(zip(classification, regression, strict=True))

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[tuple[Instances, Instances]], targets: list[Instances]
    ) -> dict[str, Tensor]:
        """Losses of all stages; testing goes through :meth:`run_stages`."""
        levels, sizes = [features[name] for name in self.box_in_features], [one.image_size for one in targets]
        losses = self.train_apart(levels, *map(list, zip(*proposals, strict=True)), targets, sizes)
        return {f"{LOSSES[task]}_stage{stage}": loss for (task, stage), loss in losses.items()}

    def pooled_rois(self, stage: int, features: list[Tensor], rois: list[Instances]) -> Tensor:
        """Pool the RoIs of all images for a stage."""
        return self.pooled(stage, features, [own.proposal_boxes for own in rois])

    def task_output(self, task: Task, stage: int, pooled: Tensor) -> Tensor:
        """Logits or deltas of pooled RoIs."""
        predictor = self.box_predictor[stage]
        output = predictor.cls_score if task == "classification" else predictor.bbox_pred
        return output(layers_of(self.box_head[stage], task)(pooled))

    def task_loss(self, task: Task, stage: int, output: Tensor, rois: list[Instances]) -> Tensor:
        """Loss of one task of a stage, with its weight."""
        outputs = (output, None) if task == "classification" else (None, output)
        return self.box_predictor[stage].losses(outputs, rois)[LOSSES[task]]

    def boxes_and_labels(self, rois: Instances) -> tuple[Tensor, Tensor]:
        """Boxes of an image's RoIs, and their labels."""
        return rois.proposal_boxes.tensor, rois.gt_classes.masked_fill(rois.gt_classes == self.num_classes, -1)

    def matched_again(self, task: Task, stage: int, boxes: list[Tensor], truth: list[Instances]) -> list[Instances]:
        """Let boxes enter a later stage, without the empty ones."""
        entering = self._create_proposals_from_boxes(boxes, [one.image_size for one in truth])
        if task == "regression":
            super().tell(stage, entering, truth)
        return self._match_and_label_boxes(entering, stage, truth)
