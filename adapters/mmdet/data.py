"""From a record to what MMDetection's models take."""

from typing import Any

import mmcv
import torch
from mmcv.transforms import BaseTransform, Compose, LoadImageFromFile
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, RandomFlip, Resize

from adapters.data.pictures import check_size, reading
from adapters.layers.instance_masks import record_bitmaps
from adapters.mmdet.rules import image_backend
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.study.run import Run


class CheckedLoad(LoadImageFromFile):
    """Load a picture whose bytes are those recorded, and say in every framework's words what is wrong with one."""

    def transform(self, results: dict) -> dict:
        """Read ``results['record']``."""
        record = results["record"]
        with reading(record.path):
            pixels = mmcv.imfrombytes(record.picture_bytes(), flag=self.color_type, backend=self.imdecode_backend)
            check_size(record, *pixels.shape[:2])  # of a file that is no picture OpenCV makes None
        return results | {"img": pixels, "img_shape": pixels.shape[:2], "ori_shape": pixels.shape[:2]}


class PlannedResize(Resize):
    """Resize to the side that the training order drew for this image."""

    def transform(self, results: dict) -> dict:
        """Resize image and boxes; ``results['short_side']`` says how far."""
        self.scale = (self.scale[0], results["short_side"])
        return super().transform(results)


class PlannedFlip(RandomFlip):
    """Flip when the training order says so."""

    def __init__(self) -> None:
        super().__init__(prob=1.0, direction="horizontal")

    def transform(self, results: dict) -> dict:
        """Mirror image and boxes left to right if ``results['planned_flip']``."""
        if results["planned_flip"]:
            return super().transform(results)
        results["flip"], results["flip_direction"] = False, None
        return results


class PlannedMasks(BaseTransform):
    """Fill the masks of the resized, maybe mirrored image."""

    def transform(self, results: dict) -> dict:
        """Add ``gt_masks``, uint8 [boxes, height, width], if ``results['record']`` has segmentations."""
        height, width = results["img_shape"]
        if results["record"].segmentations is not None:
            bitmaps = record_bitmaps(results["record"], width, height, results["flip"])
            results["gt_masks"] = torch.from_numpy(bitmaps)
        return results


def load_image(run: Run) -> LoadImageFromFile:
    """Read pixels as they are stored (annotations know nothing of EXIF orientation), by Pillow as Detectron2 does."""
    return CheckedLoad(color_type="color_ignore_orientation", imdecode_backend=image_backend(run))


def image_fields(record: ImageRecord) -> dict[str, Any]:
    """What MMDetection's transforms expect to know of an image."""
    fields = {"img_id": record.id, "img_path": str(record.path), "height": record.height, "width": record.width}
    return fields | {"record": record}


class ImageReader:
    """Keeps :class:`adapters.data.training_dataset.ImageReader`.

    Attributes
    ----------
    training_transforms, test_transforms : Compose
        What an image goes through; the training order says how far it is resized and whether it is mirrored.
    """

    def __init__(self, run: Run) -> None:
        sizes, backend = run.protocol.input, image_backend(run)
        self.max_long_side = sizes.max_long_side
        scale = (sizes.max_long_side, sizes.train_short_sides[0])
        resize = PlannedResize(scale=scale, keep_ratio=True, backend=backend)
        steps = [load_image(run), LoadAnnotations(with_bbox=True), resize, PlannedFlip()]
        if run.variant.masks:
            steps.append(PlannedMasks())
        self.training_transforms = Compose([*steps, PackDetInputs()])
        resize = Resize(scale=(sizes.max_long_side, sizes.test_short_side), keep_ratio=True, backend=backend)
        keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
        self.test_transforms = Compose([load_image(run), resize, PackDetInputs(meta_keys=keys)])

    def test_image(self, record: ImageRecord) -> dict[str, Any]:
        """Return the image, uint8 [3, H, W], and its sizes as a DetDataSample."""
        return self.test_transforms(image_fields(record))

    def training_image(
        self, record: ImageRecord, short_side: int, flip: bool, step_shape: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """Return the image, uint8 [3, H, W], and a DetDataSample with its ground truth."""
        instances = [
            {"bbox": box.tolist(), "bbox_label": int(label), "ignore_flag": 0}
            for box, label in zip(record.boxes, record.labels, strict=True)
        ]
        planned = {"planned_flip": flip, "short_side": short_side}
        item = self.training_transforms(image_fields(record) | {"instances": instances} | planned)
        if step_shape:
            item["data_samples"].set_metainfo({"step_shape": step_shape})
        return item
