"""What follows the common rule where Detectron2 has another of its own: padding, and how deltas become boxes."""

from typing import Any

from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import ImageList
from torch import Tensor

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
