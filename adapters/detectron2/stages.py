"""The stages of a cascade under control: how they train, and everything that they give at test time."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Boxes, Instances
from torch import Tensor

from adapters.score_rules import StageOutputs


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
    """

    def __init__(self, *, trunk_gradient: Sequence[float], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.trunk_gradient = [float(weight) for weight in trunk_gradient]

    def _run_stage(self, features: list[Tensor], proposals: list[Instances], stage: int) -> tuple[Tensor, Tensor]:
        pooled = self.box_pooler(features, [one.proposal_boxes for one in proposals])
        if self.training:
            pooled = ScaledGradient.apply(pooled, self.trunk_gradient[stage])
        return self.box_predictor[stage](self.box_head[stage](pooled))

    def run_stages(self, features: dict[str, Tensor], proposals: Instances) -> StageOutputs:
        """Run every stage on one image; nothing is filtered between stages, so that row n is proposal n throughout.

        Parameters
        ----------
        features : dict of str to Tensor, float32 [1, C, H, W]
            The pyramid's levels by name.
        proposals : Instances
            With ``proposal_boxes``, in pixels of the resized image.
        """
        levels = [features[name] for name in self.box_in_features]
        outputs = StageOutputs([], [], [])
        entering = proposals
        for head, predictor in zip(self.box_head, self.box_predictor, strict=True):
            if outputs.boxes:
                entering = Instances(proposals.image_size, proposal_boxes=Boxes(outputs.boxes[-1]))
            pooled = self.box_pooler(levels, [entering.proposal_boxes])
            predictions = predictor(head(pooled))
            (decoded,) = predictor.predict_boxes(predictions, [entering])
            clipped = Boxes(decoded.reshape(-1, 4))
            clipped.clip(proposals.image_size)
            outputs.boxes.append(clipped.tensor.reshape(decoded.shape))
            outputs.logits.append(predictions[0])
        earlier = zip(self.box_head[:-1], self.box_predictor[:-1], strict=True)
        outputs.last_logits.extend(predictor(head(pooled))[0] for head, predictor in earlier)
        outputs.last_logits.append(outputs.logits[-1])
        return outputs

    def detect(self, stage: int, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> Instances:
        """Filter by score, suppress and keep the best, by the numbers of a stage's predictor.

        Parameters
        ----------
        stage : int
            From 0.
        boxes : Tensor, float32 [R, 4 or 4 * classes]
            In pixels of the resized image.
        scores : Tensor, float32 [R, classes + 1]
            Probabilities, background last.
        size : tuple of int
            Height and width of the resized image.
        """
        predictor = self.box_predictor[stage]
        (detected,), _ = fast_rcnn_inference(
            [boxes], [scores], [size], predictor.test_score_thresh, predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )  # fmt: skip
        return detected
