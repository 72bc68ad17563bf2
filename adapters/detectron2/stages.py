"""The stages of a detector under control: how they train, and everything that they give at test time."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Boxes, Instances
from torch import Tensor

from adapters.prediction.score_rules import StageOutputs, asks_for_last_rois, one_box_each
from adapters.training.stage_recording import StageRecording
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.diagnostics.quality_matrix import QualityStage, quality_stages


class ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a weight."""

    @staticmethod
    def forward(context: Any, features: Tensor, weight: float) -> Tensor:
        """Pass the features on."""
        context.weight = weight
        return features.view_as(features)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Scale the gradient."""
        return gradient * context.weight, None


class ControlledROIHeads(CascadeROIHeads):
    """A cascade of one or more stages whose weights act on the trunk's gradient alone.

    With one stage it is Faster R-CNN: Detectron2's cascade trains its first stage as ``StandardROIHeads`` trains its
    only one. Later stages train on every box that the stage before regressed, as Detectron2 does.

    Parameters
    ----------
    trunk_gradient : sequence of float
        For every stage the factor on the gradient that flows from its pooled features into neck and backbone.
        Detectron2's own cascade takes 1 / stages.
    applications : int
        How often the row of heads is run through at test.
    """

    def __init__(self, *, trunk_gradient: Sequence[float], applications: int = 1, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.trunk_gradient = [float(weight) for weight in trunk_gradient]
        self.applications = applications
        self.recording: StageRecording | None = None

    @property
    def test_row(self) -> list[int]:
        """Heads, from 0, in the order in which test runs them."""
        return list(range(len(self.box_predictor))) * self.applications

    @property
    def regressors(self) -> int:
        """Regressors in a row at test."""
        return sum(self.box_predictor[head].regresses for head in self.test_row)

    @property
    def classifiers(self) -> int:
        """Classifiers at test."""
        return sum(self.box_predictor[head].classifies for head in self.test_row)

    def stage_forward(self, stage: int, pooled: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Say what the layers of a stage make of pooled RoIs; a variant may do it otherwise.

        Parameters
        ----------
        stage : int
            From 0.
        pooled : Tensor, float32 [R, channels, H, W]
            The stage's own RoIs.

        Returns
        -------
        logits : Tensor, float32 [R, classes + 1], or None
            Background last; None: the stage does not classify.
        deltas : Tensor, float32 [R, 4 or 4 * classes], or None
            None: the stage does not regress.
        """
        return self.box_predictor[stage](self.box_head[stage](pooled))

    def tell(self, stage: int, proposals: list[Instances], targets: list[Instances]) -> None:
        """Tell the recording, if there is one, which boxes enter a stage, from 0, before they are matched."""
        if self.recording is not None:
            for one, target in zip(proposals, targets, strict=True):
                self.recording.add(stage, one.proposal_boxes.tensor, target.gt_boxes.tensor)

    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """Match and sample what enters the first stage, image by image."""
        self.tell(0, proposals, targets)
        return super().label_and_sample_proposals(proposals, targets)

    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        self.tell(stage, proposals, targets)
        return super()._match_and_label_boxes(proposals, stage, targets)

    def pooled(self, levels: list[Tensor], proposals: list[Instances], stage: int) -> Tensor:
        """Pool RoIs, image after image; in training the stage's share of the gradient flows back into the levels."""
        features = self.box_pooler(levels, [one.proposal_boxes for one in proposals])
        factor = self.trunk_gradient[stage]
        return ScaledGradient.apply(features, factor) if self.training and factor != 1 else features

    def _run_stage(
        self, features: list[Tensor], proposals: list[Instances], stage: int
    ) -> tuple[Tensor | None, Tensor | None]:
        return self.stage_forward(stage, self.pooled(features, proposals, stage))

    def run_stages(
        self, features: dict[str, Tensor], proposals: Instances, test_stages: Sequence[TestStage]
    ) -> StageOutputs:
        """Run every stage on one image; nothing is filtered between stages, so that row n is proposal n throughout.

        Parameters
        ----------
        features : dict of str to Tensor, float32 [1, C, H, W]
            The pyramid's levels by name.
        proposals : Instances
            With ``proposal_boxes``, in pixels of the resized image.
        test_stages : sequence of TestStage
            What will be read off the outputs; only some need the classifiers on the last stage's RoIs.
        """
        levels = [features[name] for name in self.box_in_features]
        outputs = StageOutputs([], [], [])
        entering = proposals
        for stage in self.test_row:
            pooled = self.pooled(levels, [entering], stage)
            outputs.rois.append(entering.proposal_boxes.tensor)
            outputs.pooled.append(pooled)
            logits, deltas = self.stage_forward(stage, pooled)
            outputs.boxes.append(self.decoded(stage, deltas, entering))
            if logits is not None:
                outputs.logits.append(logits)
            moved = one_box_each(outputs.boxes[-1], logits)
            entering = Instances(proposals.image_size, proposal_boxes=Boxes(moved))
        if asks_for_last_rois(test_stages):
            classifying = self.test_row[: len(outputs.logits)]
            earlier = classifying[: len(self.test_row) - 1]
            outputs.last_logits.extend(self.stage_forward(stage, pooled)[0] for stage in earlier)
            outputs.last_logits.extend(outputs.logits[len(earlier) :])
        return outputs

    def quality(self, outputs: StageOutputs, size: tuple[int, int]) -> Iterator[tuple[QualityStage, Tensor, Tensor]]:
        """Run every whole head on the RoIs of every stage of one image; there is nothing to run with one stage.

        Parameters
        ----------
        outputs : StageOutputs
            Of :meth:`run_stages`; what it has already is not computed again.
        size : tuple of int
            Height and width of the resized image.

        Yields
        ------
        QualityStage, boxes [R, 4 or 4 * classes], probabilities [R, classes + 1]
        """
        whole = sum(one.classifies and one.regresses for one in self.box_predictor)
        for cell in quality_stages(whole, self.regressors) if self.regressors > 1 else ():
            head, place = cell.head - 1, cell.stage - 1
            if head == self.test_row[place]:
                boxes, logits = outputs.boxes[place], outputs.logits[place]
            else:
                logits, deltas = self.stage_forward(head, outputs.pooled[place])
                boxes = self.decoded(head, deltas, Instances(size, proposal_boxes=Boxes(outputs.rois[place])))
            yield cell, boxes, logits.softmax(-1)

    def decoded(self, stage: int, deltas: Tensor, proposals: Instances) -> Tensor:
        """Boxes of a stage's regressor on one image, clipped to it: float32 [R, 4 or 4 * classes]."""
        (decoded,) = self.box_predictor[stage].predict_boxes((None, deltas), [proposals])
        clipped = Boxes(decoded.reshape(-1, 4))
        clipped.clip(proposals.image_size)
        return clipped.tensor.reshape(decoded.shape)

    def detect(self, stage: int, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> Instances:
        """Filter by score, suppress and keep the best, by the numbers of a stage's predictor.

        Parameters
        ----------
        stage : int
            Place in the row of test, from 0.
        boxes : Tensor, float32 [R, 4 or 4 * classes]
            In pixels of the resized image.
        scores : Tensor, float32 [R, classes + 1]
            Probabilities, background last.
        size : tuple of int
            Height and width of the resized image.
        """
        predictor = self.box_predictor[self.test_row[stage]]
        (detected,), _ = fast_rcnn_inference(
            [boxes], [scores], [size], predictor.test_score_thresh, predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )  # fmt: skip
        return detected
