"""From a record to what Detectron2's models take."""

from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.data.detection_utils import convert_PIL_to_numpy, filter_empty_instances
from detectron2.structures import Boxes, Instances
from PIL import Image

from adapters.data.pictures import check_size, open_picture, reading
from adapters.layers.instance_masks import record_bitmaps
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import resized_shape
from cascadebench.study.run import Run


class ImageReader:
    """Keeps :class:`adapters.data.training_dataset.ImageReader`.

    Parameters
    ----------
    run : Run
        Its protocol gives the sizes, its backbone the order of the channels.
    """

    def __init__(self, run: Run) -> None:
        self.max_long_side = run.protocol.input.max_long_side
        self.test_short_side = run.protocol.input.test_short_side
        self.format = run.backbone.channel_order.upper()
        self.masks = run.variant.masks

    def pixels(self, picture: Image.Image) -> np.ndarray:
        """Return a picture as uint8 [H, W, 3] in the backbone's order of channels."""
        return convert_PIL_to_numpy(picture, self.format)

    def resize(self, width: int, height: int, short_side: int) -> T.ResizeTransform:
        """Return the transform that scales the shorter side to `short_side` pixels within the longest side allowed."""
        new_width, new_height = resized_shape(width, height, short_side, self.max_long_side)
        return T.ResizeTransform(height, width, new_height, new_width, Image.BILINEAR)

    def test_transform(self, width: int, height: int) -> T.ResizeTransform:
        """Return the transform of a picture of this size at test time."""
        return self.resize(width, height, self.test_short_side)

    def read(self, record: ImageRecord) -> np.ndarray:
        """Read the pixels of a record, uint8 [H, W, 3].

        They stay as they are stored: annotations know nothing of EXIF orientation.

        Raises
        ------
        Fault
            If the file is no readable picture, another than when the dataset was prepared, or of another size than the
            annotations say.
        """
        with reading(record.path), open_picture(record) as picture:
            pixels = self.pixels(picture)
        check_size(record, *pixels.shape[:2])
        return pixels

    def test_image(self, record: ImageRecord) -> dict[str, Any]:
        """Return what the model takes at test time: uint8 image [3, H, W] and the original height and width."""
        image = as_tensor(self.test_transform(record.width, record.height).apply_image(self.read(record)))
        return {"image": image, "height": record.height, "width": record.width}

    def training_image(
        self, record: ImageRecord, short_side: int, flip: bool, step_shape: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """Return what the model takes in training: uint8 image [3, H, W] and its ground truth as Instances.

        Boxes are clipped to the image; those of no area are dropped. If the detector predicts masks, ground truth has
        ``bitmaps``, uint8 [N, H, W].
        """
        resize = self.resize(record.width, record.height, short_side)
        transforms = T.TransformList([resize, T.HFlipTransform(resize.new_w)] if flip else [resize])
        image = as_tensor(transforms.apply_image(self.read(record)))
        # In double precision, as Detectron2 transforms the boxes of annotations.
        boxes = Boxes(torch.from_numpy(transforms.apply_box(record.boxes.astype(np.float64)).reshape(-1, 4)))
        size = tuple(image.shape[1:])
        boxes.clip(size)
        instances = Instances(size, gt_boxes=boxes, gt_classes=torch.from_numpy(record.labels.astype(np.int64)))
        if self.masks and record.segmentations is not None:
            height, width = size
            instances.bitmaps = torch.from_numpy(record_bitmaps(record, width, height, flip))
        made = {"image": image, "instances": filter_empty_instances(instances)}
        # The model ignores id and flip; the training log says by them what was really consumed.
        made |= {"image_id": record.id, "flip": flip}
        return made | {"step_shape": step_shape} if step_shape else made


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """From uint8 [H, W, 3] to uint8 [3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
