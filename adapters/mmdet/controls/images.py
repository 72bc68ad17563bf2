"""From a picture to the tensor that the model sees."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.datasets.transforms import Resize
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch import Tensor

from adapters.inspection.control_rows import Row, one_or_all, rounded
from adapters.inspection.image_probes import normalized_pixel, padding_value, resized_image_digest, saved, saved_probe
from adapters.training.assembly import Built
from cascadebench.controls.definitions import ODD_SIZES
from cascadebench.datasets.prepared import ImageRecord


def rows(built: Built) -> Iterator[Row]:
    """Yield ``input.*``."""
    preprocessor = built.model.data_preprocessor
    yield "input.pixel_mean", rounded(preprocessor.mean), "data_preprocessor.mean"
    yield "input.pixel_std", rounded(preprocessor.std), "data_preprocessor.std"
    # MMDetection reads BGR; the preprocessor swaps it.
    order = "rgb" if preprocessor._channel_conversion else "bgr"
    yield "input.channel_order", order, "data_preprocessor._channel_conversion"
    pixel = normalized_pixel(lambda record: _normalized(built, [built.reader.test_image(record)]))
    yield "input.normalized_pixel", pixel, "probe: reader.test_image(), data_preprocessor"
    yield "input.size_divisor", preprocessor.pad_size_divisor, "data_preprocessor.pad_size_divisor"
    filled = padding_value(lambda images: _normalized(built, [_packed(image) for image in images]))
    yield "input.padding_value", filled, "probe: data_preprocessor with two images"
    yield from _sizes(built)
    with saved_probe() as record:
        left = len(_trained(built, record)["data_samples"].gt_instances)
    yield "input.ground_truth_boxes", left, "probe: reader.training_image()"


def _sizes(built: Built) -> Iterator[Row]:
    """Squares show the shorter side, a very long picture the limit of the longer one."""
    both = built.dataset.reader.training_transforms, built.reader.test_transforms
    names = one_or_all(resizing(transforms) for transforms in both)
    yield "input.resize", names, "Resize.backend, .interpolation in training and testing"
    digest = resized_image_digest(
        lambda record: built.reader.test_image(record)["inputs"].numpy()[::-1].transpose(1, 2, 0)
    )
    yield "input.resized_image_sha256", digest, "probe: reader.test_image()"
    shapes = [[*_tested_size(built, size)] for size in ODD_SIZES]
    yield "input.resized_shapes", shapes, "probe: reader.test_image()"
    square, long = (16, 16), (400, 40)
    sides = np.unique(built.dataset.order.short_sides).tolist()
    trained = sorted(_trained_size(built, square, side)[1] for side in sides)
    yield "input.train_short_sides", trained, "probe: reader.training_image(), a square with each of order.short_sides"
    yield "input.test_short_side", _tested_size(built, square)[1], "probe: reader.test_image(), a square"
    longest = one_or_all([_trained_size(built, long, sides[-1])[0], _tested_size(built, long)[0]])
    where = "probe: reader.training_image(), reader.test_image(), a very long picture"
    yield "input.max_long_side", longest, where


def resizing(transforms: Compose) -> str:
    """Name library and filter of the one step that resizes."""
    (resize,) = [step for step in transforms.transforms if isinstance(step, Resize)]
    return f"{resize.backend}_{resize.interpolation}"


def _tested_size(built: Built, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a picture after the transforms of testing."""
    with saved(Image.new("RGB", size)) as record:
        height, width = built.reader.test_image(record)["inputs"].shape[1:]
    return width, height


def _trained(built: Built, record: ImageRecord, flip: bool = False) -> dict[str, Any]:
    """Send a picture and its boxes through the transforms of training."""
    return built.dataset.reader.training_image(record, built.run.protocol.input.train_short_sides[0], flip)


def _trained_size(built: Built, size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Width and height of a picture, with a box of its size, after the transforms of training."""
    with saved(Image.new("RGB", size), [(0, 0, *size)]) as record:
        height, width = built.dataset.reader.training_image(record, short_side, False)["inputs"].shape[1:]
    return width, height


def _packed(image: Tensor) -> dict[str, Any]:
    """An image as the transforms of testing give it."""
    return {"inputs": image, "data_samples": DetDataSample(metainfo={"img_shape": tuple(image.shape[1:])})}


def _normalized(built: Built, items: list[dict[str, Any]]) -> Tensor:
    """A batch as the model sees it."""
    return built.model.data_preprocessor(pseudo_collate(items), False)["inputs"]


def mirrors(built: Built) -> bool:
    """Probe whether the transforms of training mirror a picture and its boxes left to right where the plan says so."""
    with saved_probe() as record:
        plain, flipped = (_trained(built, record, flip) for flip in (False, True))
    width = plain["inputs"].shape[2]
    before, after = (item["data_samples"].gt_instances.bboxes.tensor for item in (plain, flipped))
    expected = before[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1.0, -1.0, 1.0]) + torch.tensor([width, 0.0, width, 0.0])
    return torch.equal(plain["inputs"].flip(2), flipped["inputs"]) and torch.allclose(expected, after, atol=1e-3)
