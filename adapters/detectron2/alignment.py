"""What follows the common rule where Detectron2 has another of its own: how deltas become boxes."""

from detectron2.modeling.box_regression import Box2BoxTransform
from torch import Tensor


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
