"""From records and the training order to MMDetection's batches."""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.transforms import BaseTransform, Compose, LoadImageFromFile
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, RandomFlip, Resize
from torch.utils.data import Dataset

from adapters.data.pictures import check_size, fault_as_item, reading
from adapters.layers.masks import record_bitmaps
from adapters.mmdet.own_rules import image_backend
from adapters.training.step_parts import step_shape
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder
from cascadebench.study.run import Run


class CheckedLoad(LoadImageFromFile):
    """Load a picture, and say in every framework's words what is wrong with one that cannot be read."""

    def transform(self, results: dict) -> dict:
        """Read ``results['record']``."""
        record = results["record"]
        with reading(record.path):
            results = super().transform(results)
        check_size(record, *results["img"].shape[:2])
        return results


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


def training_transforms(run: Run) -> Compose:
    """Transforms of a training image."""
    sizes = run.protocol.input
    scale = (sizes.max_long_side, sizes.train_short_sides[0])
    resize = PlannedResize(scale=scale, keep_ratio=True, backend=image_backend(run))
    steps = [load_image(run), LoadAnnotations(with_bbox=True), resize, PlannedFlip()]
    if run.variant.masks:
        steps.append(PlannedMasks())
    return Compose([*steps, PackDetInputs()])


def test_transforms(run: Run) -> Compose:
    """Transforms of a test image."""
    sizes = run.protocol.input
    scale = (sizes.max_long_side, sizes.test_short_side)
    resize = Resize(scale=scale, keep_ratio=True, backend=image_backend(run))
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    return Compose([load_image(run), resize, PackDetInputs(meta_keys=keys)])


def image_fields(record: ImageRecord) -> dict[str, Any]:
    """What MMDetection's transforms expect to know of an image."""
    fields = {"img_id": record.id, "img_path": str(record.path), "height": record.height, "width": record.width}
    return fields | {"record": record}


class TrainingDataset(Dataset):
    """Every image of a training in its order: item ``iteration * batch_size + column``."""

    def __init__(self, run: Run, records: Sequence[ImageRecord], order: TrainingOrder) -> None:
        self.records, self.order = records, order
        self.transforms = training_transforms(run)
        self.max_long_side = run.protocol.input.max_long_side
        self.metainfo = {"classes": run.dataset.categories}

    def __len__(self) -> int:
        return self.order.images.size

    def planned(self, position: int) -> tuple[int, bool, int]:
        """Image id, whether it is mirrored, and length of the shorter side of an item, without reading its picture."""
        record = self.records[self.order.images.flat[position]]
        return record.id, bool(self.order.flips.flat[position]), int(self.order.short_sides.flat[position])

    @fault_as_item
    def __getitem__(self, position: int) -> dict[str, Any]:
        _, flip, short_side = self.planned(position)
        item = self.transformed(self.records[self.order.images.flat[position]], flip, short_side)
        shape = step_shape(self.records, self.order, position, self.max_long_side)
        item["data_samples"].set_metainfo({"step_shape": shape})
        return item

    def transformed(self, record: ImageRecord, flip: bool, short_side: int) -> dict[str, Any]:
        """Read and transform one image with its ground truth."""
        instances = [
            {"bbox": box.tolist(), "bbox_label": int(label), "ignore_flag": 0}
            for box, label in zip(record.boxes, record.labels, strict=True)
        ]
        planned = {"planned_flip": flip, "short_side": short_side}
        return self.transforms(image_fields(record) | {"instances": instances} | planned)
