"""RoIs of their own for classification and for regression: two lists of proposals, two samples.

Source: Wang et al., Decoupled R-CNN, Section IV.A, Fig. 5, and Table I.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.modeling.roi_heads import ROIHeads
from detectron2.structures import Boxes, Instances
from torch import Tensor

from adapters.detectron2.box_heads import Task, layers_of
from adapters.detectron2.stages import ControlledRoIHeads
from adapters.prediction.score_rules import one_box_each


class TwoListRPN(RPN):
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


class DecoupledRoIHeads(ControlledRoIHeads):
    """Stages whose classifiers and regressors train on RoIs of their own, each branch on its own alone.

    Classification RoIs are sampled by Detectron2's rules, regression RoIs by ``regression_sampler``. Negatives have no
    part in Detectron2's regression loss but in its divisor. A later stage regresses the positives of the stage before
    as they were moved, and its negatives where they are; a later classifier trains on all classification RoIs, moved.

    Parameters
    ----------
    regression_sampler : ROIHeads
        Matches and samples the RoIs of the first regressor.
    """

    def __init__(self, *, regression_sampler: ROIHeads, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.regression_sampler = regression_sampler

    def tell(self, stage: int, proposals: list[Instances], targets: list[Instances]) -> None:
        """Tell nothing: the same methods match for both tasks, and a recording is of the regressors' RoIs."""

    def label_and_sample_proposals(
        self, proposals: list[tuple[Instances, Instances]], targets: list[Instances]
    ) -> list[tuple[Instances, Instances]]:
        """Sample both lists of an image, classification first, before those of the next image."""
        pairs = []
        for (for_classification, for_regression), target in zip(proposals, targets, strict=True):
            (classification,) = super().label_and_sample_proposals([for_classification], [target])
            super().tell(0, [for_regression], [target])
            (regression,) = self.regression_sampler.label_and_sample_proposals([for_regression], [target])
            pairs.append((classification, regression))
        return pairs

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[tuple[Instances, Instances]], targets: list[Instances]
    ) -> dict[str, Tensor]:
        """Losses of all stages; testing goes through :meth:`run_stages`."""
        levels = [features[name] for name in self.box_in_features]
        classification, regression = ([pair[task] for pair in proposals] for task in (0, 1))
        losses: dict[str, Tensor] = {}
        for stage, predictor in enumerate(self.box_predictor):
            terms: dict[str, Tensor] = {}
            if predictor.classifies:
                seen = self.pooled(stage, levels, [image.proposal_boxes for image in classification])
                logits = self._output("classification", stage, seen)
                terms |= predictor.losses((logits, None), classification)
            pooled = self.pooled(stage, levels, [image.proposal_boxes for image in regression])
            deltas = self._output("regression", stage, pooled)
            terms |= predictor.losses((None, deltas), regression)
            losses |= {f"{name}_stage{stage}": term for name, term in terms.items()}
            if stage + 1 == len(self.box_predictor):
                break
            moved = self._positives_moved(stage, regression, pooled, deltas)
            regression = self._entering(moved, regression)
            super().tell(stage + 1, regression, targets)
            regression = self._match_and_label_boxes(regression, stage + 1, targets)
            if self.box_predictor[stage + 1].classifies:
                with torch.no_grad():
                    deltas = self._output("regression", stage, seen)
                moved = self._moved(stage, classification, logits, deltas)
                classification = self._entering(moved, classification)
                classification = self._match_and_label_boxes(classification, stage + 1, targets)
        return losses

    def _output(self, task: Task, stage: int, pooled: Tensor) -> Tensor:
        """Logits or deltas: what the layers of one task of a stage make of pooled RoIs."""
        predictor = self.box_predictor[stage]
        output = predictor.cls_score if task == "classification" else predictor.bbox_pred
        return output(layers_of(self.box_head[stage], task)(pooled))

    @torch.no_grad()
    def _moved(self, stage: int, proposals: list[Instances], logits: Tensor | None, deltas: Tensor) -> list[Tensor]:
        """Boxes of all RoIs, image by image, as the stage regresses them; float32 [R, 4] each."""
        numbers = [len(one) for one in proposals]
        chosen = [None] * len(numbers) if logits is None else logits.split(numbers)
        decoded = self.box_predictor[stage].predict_boxes((None, deltas), proposals)
        return [one_box_each(*pair) for pair in zip(decoded, chosen, strict=True)]

    @torch.no_grad()
    def _positives_moved(self, stage: int, proposals: list[Instances], pooled: Tensor, deltas: Tensor) -> list[Tensor]:
        """Boxes of all RoIs, image by image, of which the positives are as the stage regresses them."""
        specific = deltas.shape[1] > 4
        logits = self._output("classification", stage, pooled) if specific else None
        return [
            torch.where((one.gt_classes < self.num_classes)[:, None], boxes, one.proposal_boxes.tensor)
            for one, boxes in zip(proposals, self._moved(stage, proposals, logits, deltas), strict=True)
        ]

    def _entering(self, boxes: list[Tensor], before: list[Instances]) -> list[Instances]:
        """Clip boxes and drop empty ones: what enters a later stage."""
        return self._create_proposals_from_boxes(boxes, [one.image_size for one in before])
