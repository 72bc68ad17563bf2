"""What the witness asks of MMDetection's objects."""

from typing import Any

from mmdet.structures import DetDataSample
from torch import Tensor, nn

from adapters.mmdet.controls.heads import probed_heads as probed_heads
from adapters.mmdet.training import loss_name
from adapters.witness.framework import Item
from cascadebench.study.run import Run


def item_fields(run: Run, item: dict[str, Any]) -> Item:
    """An item in common terms; MMDetection's readers give blue first."""
    sample: DetDataSample = item["data_samples"]
    pixels = item["inputs"].flip(0)
    truth = sample.gt_instances  # MMDetection gives an empty one at test
    if "bboxes" not in truth:
        return Item(pixels)
    boxes = getattr(truth.bboxes, "tensor", truth.bboxes)
    return Item(pixels, boxes, truth.labels, getattr(truth, "masks", None))


def network_input(model: nn.Module, batch: Any) -> Tensor:
    """The normalised, padded batch of a training step."""
    return model.data_preprocessor(batch, True)["inputs"]


def training_losses(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """Every loss of a training step, by common names."""
    _, terms = model.parse_losses(model(**model.data_preprocessor(batch, True), mode="loss"))
    return {loss_name(name): value for name, value in terms.items() if "loss_" in name}
