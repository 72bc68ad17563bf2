"""What follows the common rule where MMDetection has another of its own: padding, sampling, parts of the RPN."""

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
