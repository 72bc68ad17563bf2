"""The stages of a detector under control: how they train, and everything that they give at test time."""

from collections.abc import Sequence
from typing import Any

from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Boxes, Instances
from torch import Tensor

from adapters.detector.cascade_stages import CascadeStages, scaled_gradient
from adapters.detectron2.rules import SharedSamplingRoIs
from adapters.prediction.predict_image import Rows
from adapters.training.stage_recording import StageRecording


class ControlledRoIHeads(CascadeStages, SharedSamplingRoIs, CascadeROIHeads):
    """A cascade of one or more stages whose weights act on the trunk's gradient alone.

    With one stage it is Faster R-CNN: Detectron2's cascade trains its first stage as ``StandardROIHeads`` trains its
    only one. Later stages train on every box that the stage before passes on, as Detectron2 does.

    Parameters
    ----------
    trunk_gradient : sequence of float
        For every stage the factor on the gradient that flows from its pooled features into neck and backbone.
        Detectron2's own cascade takes 1 / stages.
    later_ground_truth : bool
        Whether ground truth joins what enters a later stage.
    applications : int
        How often the row of heads is run through at test.
    """

    def __init__(
        self, *, trunk_gradient: Sequence[float], later_ground_truth: bool = False, applications: int = 1,
        **arguments: Any,
    ) -> None:  # fmt: skip
        super().__init__(**arguments)
        self.later_ground_truth = later_ground_truth
        self.trunk_gradient = [float(weight) for weight in trunk_gradient]
        self.applications = applications
        self.recording: StageRecording | None = None

    @property
    def tasks(self) -> list[tuple[bool, bool]]:
        """Of every head whether it classifies and whether it regresses."""
        return [(head.classifies, head.regresses) for head in self.box_predictor]

    def stage_forward(self, stage: int, pooled: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What a stage makes of pooled RoIs: logits and deltas."""
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
        if self.later_ground_truth:
            proposals = [
                Instances(one.image_size, proposal_boxes=Boxes.cat([one.proposal_boxes, target.gt_boxes]))
                for one, target in zip(proposals, targets, strict=True)
            ]
        return super()._match_and_label_boxes(proposals, stage, targets)

    def pooled(self, stage: int, levels: list[Tensor], boxes: list[Boxes]) -> Tensor:
        """Pool RoIs, image after image; the stage's share of the gradient flows back into the levels."""
        return scaled_gradient(self.box_pooler(levels, boxes), self.trunk_gradient[stage])

    def held(self, levels: Sequence[Tensor]) -> dict[str, Tensor]:
        """Levels of the pyramid, finest first, by their names."""
        return dict(zip(self.box_in_features, levels, strict=False))

    def _run_stage(
        self, features: list[Tensor], proposals: list[Instances], stage: int
    ) -> tuple[Tensor | None, Tensor | None]:
        return self.stage_forward(stage, self.pooled(stage, features, [image.proposal_boxes for image in proposals]))

    def pooled_alone(self, stage: int, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Pool the boxes of one image."""
        return self.pooled(stage, [features[name] for name in self.box_in_features], [Boxes(boxes)])

    def decoded(self, stage: int, boxes: Tensor, deltas: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes of a stage's regressor on one image, clipped to it: float32 [R, 4 or 4 * classes]."""
        decoded = self.box_predictor[stage].box2box_transform.apply_deltas(deltas, boxes)
        clipped = Boxes(decoded.reshape(-1, 4))
        clipped.clip(size)
        return clipped.tensor.reshape(decoded.shape)

    def detect(self, stage: int, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> Rows:
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
        limits = predictor.test_score_thresh, predictor.test_nms_thresh, predictor.test_topk_per_image
        (detected,), _ = fast_rcnn_inference([boxes], [scores], [size], *limits)
        return detected.pred_boxes.tensor, detected.scores, detected.pred_classes
