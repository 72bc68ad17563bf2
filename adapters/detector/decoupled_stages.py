"""How classifiers and regressors train on RoIs of their own, in plain torch; the same in every framework.

Source: Wang et al., Decoupled R-CNN, TCSVT 2022, Section IV; details where it is silent: card ``decoupled_rcnn``.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from adapters.detector.cascade_stages import CascadeStages
from adapters.prediction.score_rules import boxes_of_classes, one_box_each

Task = Literal["classification", "regression"]


class DecoupledStages(CascadeStages):
    """Stages whose classifiers and regressors train on RoIs of their own, each branch on its own alone.

    A framework's RoI heads are this, and give what is not implemented here. RoIs are those of an image, matched with
    its ground truth, as the framework holds them. Only boxes pass between stages, no gradient: a later stage regresses
    the positives of the stage before as they were moved, and its negatives where they are; a later classifier trains
    on all classification RoIs, moved.

    Attributes
    ----------
    moved_by : {"predicted_class", "ground_truth_class"}
        Whose box a positive is moved to in training, where a regressor has one for each class; a negative is always
        moved to that of the class that is predicted.
    """

    moved_by: str = "predicted_class"

    def pooled_rois(self, stage: int, features: Any, rois: list) -> Tensor:
        """Pool the RoIs of all images for a stage, from 0; the stage's share of the gradient flows back."""
        raise NotImplementedError

    def task_output(self, task: Task, stage: int, pooled: Tensor) -> Tensor:
        """Logits or deltas: what the layers of one task of a stage make of pooled RoIs."""
        raise NotImplementedError

    def task_loss(self, task: Task, stage: int, output: Tensor, rois: list) -> Tensor:
        """Loss of one task of a stage, with its weight; all RoIs count in what divides it."""
        raise NotImplementedError

    def boxes_and_labels(self, rois: Any) -> tuple[Tensor, Tensor]:
        """Boxes [R, 4] of the RoIs of one image, and the label of each, int64 [R]; -1 for a negative."""
        raise NotImplementedError

    def matched_again(self, task: Task, stage: int, boxes: list[Tensor], truth: list) -> list:
        """Let boxes, image by image, enter a later stage without the empty ones; a recording is told of regression."""
        raise NotImplementedError

    def train_apart(
        self, features: Any, classification: list, regression: list, truth: list, sizes: list[tuple[int, int]]
    ) -> dict[tuple[Task, int], Tensor]:
        """Losses of every stage's tasks, by task and stage from 0.

        Parameters
        ----------
        features
            Levels of the pyramid, as :meth:`pooled_rois` takes them.
        classification, regression : list
            RoIs of the first stage, image by image.
        truth : list
            Ground truth, image by image, as :meth:`matched_again` takes it.
        sizes : list of tuple of int
            Heights and widths of the images.
        """
        losses: dict[tuple[Task, int], Tensor] = {}
        for stage, (classifies, _) in enumerate(self.tasks):
            if classifies:
                seen = self.pooled_rois(stage, features, classification)
                logits = self.task_output("classification", stage, seen)
                losses["classification", stage] = self.task_loss("classification", stage, logits, classification)
            pooled = self.pooled_rois(stage, features, regression)
            deltas = self.task_output("regression", stage, pooled)
            losses["regression", stage] = self.task_loss("regression", stage, deltas, regression)
            later = stage + 1
            if later == len(self.tasks):
                break
            moved = self._positives_moved(stage, regression, pooled, deltas, sizes)
            regression = self.matched_again("regression", later, moved, truth)
            if self.tasks[later][0]:
                with torch.no_grad():
                    deltas = self.task_output("regression", stage, seen)
                moved = self._moved(stage, classification, deltas, logits, sizes)
                classification = self.matched_again("classification", later, moved, truth)
        return losses

    @torch.no_grad()
    def _moved(self, stage: int, rois: list, deltas: Tensor, logits: Tensor | None, sizes: list) -> list[Tensor]:
        """Boxes of all RoIs, image by image, as the stage regresses them; float32 [R, 4] each."""
        labelled = [self.boxes_and_labels(own) for own in rois]
        numbers, moved = [len(boxes) for boxes, _ in labelled], []
        chosen = [None] * len(numbers) if logits is None else logits.split(numbers)
        images = zip(labelled, deltas.split(numbers), chosen, sizes, strict=True)
        for (boxes, labels), own_deltas, scores, size in images:
            every = self.decoded(stage, boxes, own_deltas, size)
            one = one_box_each(every, scores)
            if self.moved_by == "ground_truth_class" and every.shape[1] > 4:
                one = torch.where(labels[:, None] >= 0, boxes_of_classes(every, labels.clamp(min=0)), one)
            moved.append(one)
        return moved

    @torch.no_grad()
    def _positives_moved(self, stage: int, rois: list, pooled: Tensor, deltas: Tensor, sizes: list) -> list[Tensor]:
        """Boxes of all RoIs, image by image, of which the positives are as the stage regresses them."""
        logits = self.task_output("classification", stage, pooled) if deltas.shape[1] > 4 else None
        before = [self.boxes_and_labels(own) for own in rois]
        moved = self._moved(stage, rois, deltas, logits, sizes)
        return [torch.where(labels[:, None] >= 0, new, own) for (own, labels), new in zip(before, moved, strict=True)]
