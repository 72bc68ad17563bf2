"""Rules of Detectron2: what follows the common rule where it has another of its own, and what puts its own ones back.

The common rules are of padding, of sampling and of how deltas become boxes; own ones are for a protocol with
``rules: detectron2``. What the protocol has a value for (image sizes, batch norm, iterations) is not
here: a protocol says it.
"""

from typing import Any

import torch
from detectron2.config import LazyCall
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import ROIHeads
from detectron2.structures import ImageList
from omegaconf import DictConfig
from torch import Tensor

from adapters.training.shared_sampling import draw
from adapters.training.step_parts import padded_to_step


class StepPaddedRCNN(GeneralizedRCNN):
    """Detectron2's detector, which pads the images of a pass as if all images of their step were in it."""

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise and batch images; an item of a training has ``step_shape``."""
        images = super().preprocess_image(batched_inputs)
        if "step_shape" not in batched_inputs[0]:
            return images
        divisor = self.backbone.size_divisibility
        padded = padded_to_step(images.tensor, batched_inputs[0]["step_shape"], divisor)
        return ImageList(padded, images.image_sizes)


class TwoSidedBoxTransform(Box2BoxTransform):
    """Detectron2's transform, which also limits how far a box may shrink.

    Detectron2 clamps the logarithm of the factor on a side from above alone; here it stays within plus and minus the
    same limit, log(1000 / 16), so that the factor is 0.016 to 62.5.
    """

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Decode deltas, float [N, 4 * k], for boxes [N, 4]; the parent clamps them from above."""
        deltas = deltas.float()
        _, _, width_weight, height_weight = self.weights
        unlimited = float("-inf")
        least = [unlimited, unlimited, -self.scale_clamp * width_weight, -self.scale_clamp * height_weight]
        limited = deltas.reshape(-1, 4).maximum(deltas.new_tensor(least)).reshape(deltas.shape)
        return super().apply_deltas(limited, boxes)


class SharedSampling:
    """What samples as all frameworks do.

    Parameters
    ----------
    shared_sampling : bool
        False: Detectron2 draws by itself.

    Attributes
    ----------
    image_seed : int or None
        Of the image that is sampled next; None: Detectron2 draws.
    """

    def __init__(self, *, shared_sampling: bool = True, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.image_seed = 0 if shared_sampling else None


class SharedSamplingRPN(SharedSampling, RPN):
    """A proposal network whose anchors are drawn as in all frameworks."""

    def _subsample_labels(self, label: Tensor) -> Tensor:
        """Make -1 of the labels of an image's anchors, 1, 0 or -1, that are not drawn."""
        if self.image_seed is None:
            return super()._subsample_labels(label)
        quotas = self.batch_size_per_image, self.positive_fraction
        positives, negatives = draw(label == 1, label == 0, *quotas, self.image_seed)
        label.fill_(-1)
        label[positives], label[negatives] = 1, 0
        return label


class SharedSamplingRoIs(SharedSampling, ROIHeads):
    """Heads whose RoIs are drawn as in all frameworks, from proposals and after them the ground truth that joins."""

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Places of the RoIs that are drawn, and their classes; background is the last."""
        if self.image_seed is None:
            return super()._sample_proposals(matched_idxs, matched_labels, gt_classes)
        quotas = self.batch_size_per_image, self.positive_fraction
        positives, negatives = draw(matched_labels == 1, matched_labels == 0, *quotas, self.image_seed)
        background = torch.full_like(negatives, self.num_classes)
        return torch.cat([positives, negatives]), torch.cat([gt_classes[matched_idxs[positives]], background])


CASCADE_TRAIN_POST_NMS = 2000


def keep_own_rules(config: DictConfig) -> None:
    """Change a detector's configuration tree, variant included, back to Detectron2's own rules.

    Weights start as Detectron2 draws them, too; that is no part of the tree (:func:`.config.build_detector`).
    """
    heads = config.roi_heads
    for sampler in (config.proposal_generator, heads, heads.get("regression_sampler", {})):
        sampler["shared_sampling"] = False
    # Boxes may shrink to nothing: the transform clamps from above alone.
    config.proposal_generator.box2box_transform = LazyCall(Box2BoxTransform)(weights=[1.0] * 4)
    for predictor in heads.box_predictors:
        # 10, 20 and 30 as they stand in Detectron2's files, in place of reciprocals of the deviations.
        weights = [round(weight, 6) for weight in predictor.box2box_transform.weights]
        predictor.box2box_transform = LazyCall(Box2BoxTransform)(weights=weights)
    if any(share != 1 for share in heads.trunk_gradient):
        # A cascade: every stage has the same share of the trunk's gradient.
        heads.trunk_gradient = [1 / len(heads.trunk_gradient)] * len(heads.trunk_gradient)
        # Base-RCNN-FPN.yaml keeps 1000, which protocols have; the cascade's file raises it.
        config.proposal_generator.post_nms_topk[0] = CASCADE_TRAIN_POST_NMS
