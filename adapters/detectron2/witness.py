"""What the witness asks of Detectron2's objects."""

from typing import Any

from detectron2.modeling import GeneralizedRCNN
from detectron2.utils.events import EventStorage
from torch import Tensor

from adapters.detectron2.controls.heads import probed_heads as probed_heads
from adapters.detectron2.training import loss_name
from adapters.witness.framework import Item
from cascadebench.study.run import Run


def item_fields(run: Run, item: dict[str, Any]) -> Item:
    """An item in common terms."""
    pixels = item["image"] if run.backbone.channel_order == "rgb" else item["image"].flip(0)
    if "instances" not in item:
        return Item(pixels)
    truth = item["instances"]
    masks = truth.bitmaps if truth.has("bitmaps") else None
    return Item(pixels, truth.gt_boxes.tensor, truth.gt_classes, masks)


def network_input(model: GeneralizedRCNN, batch: list[dict[str, Any]]) -> Tensor:
    """The normalised, padded batch of a training step."""
    return model.preprocess_image(batch).tensor


def training_losses(model: GeneralizedRCNN, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Every loss of a training step, by common names."""
    with EventStorage():
        return {loss_name(name): value for name, value in model(batch).items()}
