"""Rules of MMDetection: what follows the common rule where it has another of its own, and what puts its own ones back.

The adapter's configuration is written for the common rules: padding, sampling and parts of the proposal network.
For a protocol with ``rules: mmdet`` it is changed back, wherever MMDetection's templates ``faster-rcnn_r50_fpn.py`` and
``cascade-rcnn_r50_fpn.py`` say otherwise and the protocol has no value for it. Detections still come from this
project's test stages, which include MMDetection's mean of logits.
"""

from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules.assigners import AssignResult, MaxIoUAssigner
from mmdet.models.task_modules.samplers import RandomSampler, SamplingResult
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

from adapters.training.shared_sampling import draw
from adapters.training.step_parts import padded_to_step
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


@MODELS.register_module()
class StepPreprocessor(DetDataPreprocessor):
    """MMDetection's preprocessor, which pads the images of a pass as if all images of their step were in it."""

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise and batch images; a sample of a training has ``step_shape``."""
        batch = super().forward(data, training)
        samples = batch["data_samples"]
        if samples and "step_shape" in samples[0]:
            batch["inputs"] = padded_to_step(batch["inputs"], samples[0].step_shape, self.pad_size_divisor)
            for sample in samples:
                sample.set_metainfo({"batch_input_shape": tuple(batch["inputs"].shape[2:])})
        return batch


@TASK_UTILS.register_module()
class BestGroundTruthAssigner(MaxIoUAssigner):
    """An assigner whose positives all regress to the ground truth that they overlap most.

    MMDetection gives an anchor that is some ground truth's best one to that ground truth, even where the anchor
    overlaps another one more.
    """

    def assign_wrt_overlaps(self, overlaps: Tensor, gt_labels: Tensor) -> AssignResult:
        """Match by IoU, [ground truths, anchors]."""
        result = super().assign_wrt_overlaps(overlaps, gt_labels)
        if overlaps.numel():
            best = overlaps.max(dim=0)[1]
            positive = result.gt_inds > 0
            result.gt_inds[positive] = best[positive] + 1  # 0 stands for background
            result.labels[positive] = gt_labels[best[positive]]
        return result


@TASK_UTILS.register_module()
class SharedSampler(RandomSampler):
    """MMDetection's random sampler, but for the draw, which is that of all frameworks.

    Attributes
    ----------
    image_seed : int
        Of the image that is sampled next.
    """

    image_seed = 0

    def sample(
        self, assign_result: AssignResult, pred_instances: InstanceData, gt_instances: InstanceData, **named: Any
    ) -> SamplingResult:
        """Choose among the boxes of an image, which ground truth may join."""
        self._joined = len(gt_instances) if self.add_gt_as_proposals else 0
        return super().sample(assign_result, pred_instances, gt_instances, **named)

    def _sample_pos(self, assign_result: AssignResult, num_expected: int, **named: Any) -> Tensor:
        # MMDetection puts the ground truth that joins before the boxes; the common order has it after them.
        matched = assign_result.gt_inds.roll(-self._joined) if self._joined else assign_result.gt_inds
        places = draw(matched > 0, matched == 0, self.num, self.pos_fraction, self.image_seed)
        positives, self._negatives = ((own + self._joined) % len(matched) for own in places)
        return positives

    def _sample_neg(self, assign_result: AssignResult, num_expected: int, **named: Any) -> Tensor:
        return self._negatives[:num_expected]  # fewer than were drawn where something bounds them by the positives


@MODELS.register_module()
class CommonRulesRPNHead(RPNHead):
    """A proposal network that trains on the whole batch, padding too, and divides by a fixed number of anchors."""

    def get_anchors(self, *arguments: Any, **keywords: Any) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Anchors of every image and level, and that each takes part; MMDetection leaves out those in padding."""
        anchors, flags = super().get_anchors(*arguments, **keywords)
        return anchors, [[torch.ones_like(level) for level in image] for image in flags]

    def get_targets(self, anchor_list: list[list[Tensor]], *arguments: Any, **keywords: Any) -> tuple:
        """Targets of the losses and what divides them; MMDetection divides by the anchors that were sampled."""
        labels, label_weights, targets, target_weights, _, *rest = super().get_targets(
            anchor_list, *arguments, **keywords
        )
        divisor = self.sampler.num * len(anchor_list)
        return labels, label_weights, targets, target_weights, divisor, *rest


def image_backend(run: Run) -> str:
    """Library that decodes and resizes images: OpenCV, whose bilinear filter does not antialias, or Pillow."""
    return "pillow" if run.protocol.rules == "aligned" else "cv2"


def keep_own_rules(config: dict[str, Any], run: Run) -> None:
    """Change a detector's configuration from the common rules to MMDetection's own."""
    # Losses divided by the sampled anchors; anchors in padding take no part.
    config["rpn_head"]["type"] = config["rpn_head"]["type"].removeprefix("CommonRules")
    # Each ground truth's best anchor is positive from this IoU on, and regresses to that ground truth.
    config["train_cfg"]["rpn"]["assigner"] |= {"type": "MaxIoUAssigner", "min_pos_iou": 0.3}
    first = config["train_cfg"]["rcnn"][0]
    for sampler in (config["train_cfg"]["rpn"]["sampler"], first["sampler"], first.get("regression_sampler", {})):
        sampler["type"] = "RandomSampler"
    if config["type"] == "CascadeRCNN":
        _keep_cascade_rules(config, run)


def _keep_cascade_rules(config: dict[str, Any], run: Run) -> None:
    """Change what MMDetection's cascade does otherwise than its Faster R-CNN."""
    config["train_cfg"]["rpn"]["allowed_border"] = 0  # no anchor that crosses the image's border
    config["train_cfg"]["rpn_proposal"]["max_per_img"] = 2 * run.protocol.rpn.train_post_nms
    config["rpn_head"]["loss_bbox"] = {"type": "SmoothL1Loss", "beta": 1 / 9, "loss_weight": 1.0}
    roi_head, stages = config["roi_head"], run.variant.stages
    # A stage's weight acts on its whole loss, so on the head's gradient and the trunk's alike.
    roi_head["stage_loss_weights"] = [stage.trunk_gradient for stage in stage_settings(run)]
    roi_head["trunk_gradient"] = [1.0] * stages
    for head in roi_head["bbox_head"]:
        head["type"] = "StageBoxHead"  # drops what began as ground truth
        del head["drops_ground_truth"]
        head["loss_bbox"] = {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1.0}
        # The template writes thirds as .033 and .067.
        head["bbox_coder"]["target_stds"] = [round(std, 3) for std in head["bbox_coder"]["target_stds"]]
    # Every stage samples as the first does, and gets the ground truth added again.
    first, *later = config["train_cfg"]["rcnn"]
    for stage in later:
        stage["sampler"] = dict(first["sampler"])
