"""Every image of a training in its order; a framework gives only the reading of one image."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch.utils.data import Dataset

from adapters.data.pictures import fault_as_item
from adapters.training.step_parts import step_shape
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder


class ImageReader(Protocol):
    """Reads one image as a framework's models take it; nothing in it is random.

    Attributes
    ----------
    max_long_side : int
        Limit of the longer side.
    """

    max_long_side: int

    def test_image(self, record: ImageRecord) -> dict[str, Any]:
        """Return what the model takes at test time."""

    def training_image(
        self, record: ImageRecord, short_side: int, flip: bool, step_shape: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """Return what the model takes in training: an image and its ground truth.

        Parameters
        ----------
        short_side : int
            To which the shorter side is resized, within the limit of the longer one.
        flip : bool
            Whether image and ground truth are mirrored left to right.
        step_shape : (int, int) or None
            Height and width to which the model pads the image; None: to those of the batch that it is in.
        """


class TrainingDataset(Dataset):
    """Every image of a training in its order: item ``iteration * batch_size + column``."""

    def __init__(self, reader: ImageReader, records: Sequence[ImageRecord], order: TrainingOrder) -> None:
        self.reader, self.records, self.order = reader, records, order

    def __len__(self) -> int:
        return self.order.images.size

    @fault_as_item
    def __getitem__(self, position: int) -> dict[str, Any]:
        index, short_side, flip = self._drawn(position)
        shape = step_shape(self.records, self.order, position, self.reader.max_long_side)
        return self.reader.training_image(self.records[index], short_side, flip, shape)

    def planned(self, position: int) -> tuple[int, bool, int]:
        """Return image id, flip and shorter side of an item without reading its picture."""
        index, short_side, flip = self._drawn(position)
        return self.records[index].id, flip, short_side

    def _drawn(self, position: int) -> tuple[int, int, bool]:
        """Index of the record, shorter side and flip of an item."""
        order = self.order
        return int(order.images.flat[position]), int(order.short_sides.flat[position]), bool(order.flips.flat[position])
