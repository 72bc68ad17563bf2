"""Heads whose classifier and regressor have layers of their own, and outputs that lack one of the two."""

from typing import Any

from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Instances
from torch import Tensor, nn

from adapters.detector.decoupled_stages import Task


class TaskBranches(nn.Module):
    """Layers of a head, apart for its two tasks.

    Parameters
    ----------
    classification, regression : nn.Module or None
        From pooled RoIs [R, channels, H, W] to features [R, width]; None: the head lacks the task.
    """

    def __init__(self, classification: nn.Module | None, regression: nn.Module | None) -> None:
        super().__init__()
        self.classification, self.regression = classification, regression

    def forward(self, pooled: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the features of classification and of regression."""
        branches = (self.classification, self.regression)
        given = [None if branch is None else branch(pooled) for branch in branches]
        return given[0], given[1]


def layers_of(head: nn.Module, task: Task) -> nn.Module:
    """Layers of a box head that come before the output of a task."""
    return getattr(head, task) if isinstance(head, TaskBranches) else head


class StageOutputLayers(FastRCNNOutputLayers):
    """Detectron2's classifier and regressor, of which a stage may lack one.

    Parameters
    ----------
    classifies, regresses : bool
        Whether there is a classifier, a regressor.
    drops_ground_truth : bool
        Whether training passes on no box that began as ground truth.
    """

    def __init__(
        self, *arguments: Any, classifies: bool = True, regresses: bool = True, drops_ground_truth: bool = False,
        **named: Any,
    ) -> None:  # fmt: skip
        super().__init__(*arguments, **named)
        self.classifies, self.regresses, self.drops_ground_truth = classifies, regresses, drops_ground_truth
        if not classifies:
            self.cls_score = None
        if not regresses:
            self.bbox_pred = None

    def forward(self, features: Tensor | tuple[Tensor | None, Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
        """From features [R, width], one for both tasks or one for each, to logits and deltas."""
        classification, regression = features if isinstance(features, tuple) else (features, features)
        logits = self.cls_score(classification) if self.classifies else None
        deltas = self.bbox_pred(regression) if self.regresses else None
        return logits, deltas

    def losses(self, predictions: tuple[Tensor | None, Tensor | None], proposals: list[Instances]) -> dict[str, Tensor]:
        """Return the losses of the predictions that are not None."""
        logits, deltas = predictions
        given = {"loss_cls": logits, "loss_box_reg": deltas}
        if logits is None:
            logits = deltas.new_zeros(len(deltas), self.num_classes + 1)
        if deltas is None:
            deltas = logits.new_zeros(len(logits), 4)
        losses = super().losses((logits, deltas), proposals)
        return {name: loss for name, loss in losses.items() if given[name] is not None}

    def predict_boxes(
        self, predictions: tuple[Tensor | None, Tensor | None], proposals: list[Instances]
    ) -> tuple[Tensor, ...]:
        """Regressed boxes, image by image, that a later stage gets."""
        boxes = super().predict_boxes(predictions, proposals)
        if not (self.training and self.drops_ground_truth):
            return boxes
        copies = [(one.proposal_boxes.tensor == one.gt_boxes.tensor).all(1) for one in proposals]
        return tuple(own[~copy] for own, copy in zip(boxes, copies, strict=True))
