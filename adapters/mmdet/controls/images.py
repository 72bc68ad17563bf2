"""Controls of the way from an image to a tensor."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.datasets.transforms import Resize
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from PIL import Image

from adapters.inspection.probe_inputs import probe_picture, probe_record
from adapters.mmdet.controls.control_rows import Row, one_value, rounded
from adapters.training.assembly import Built
from cascadebench.controls.definitions import ODD_SIZES
from cascadebench.datasets.prepared import ImageRecord


def input_rows(built: Built) -> Iterator[Row]:
    """Pixels, padding, resizing and ground truth."""
    preprocessor = built.model.data_preprocessor
    yield "input.pixel_mean", rounded(preprocessor.mean), "data_preprocessor.mean"
    yield "input.pixel_std", rounded(preprocessor.std), "data_preprocessor.std"
    # MMDetection reads BGR; the preprocessor swaps it.
    order = "rgb" if preprocessor._channel_conversion else "bgr"
    yield "input.channel_order", order, "data_preprocessor._channel_conversion"
    yield "input.normalized_pixel", normalized_pixel(built), "probe: reader.test_image(), data_preprocessor"
    yield "input.size_divisor", preprocessor.pad_size_divisor, "data_preprocessor.pad_size_divisor"
    yield "input.padding_value", padding_value(built), "probe: data_preprocessor with two images"
    resizes = [_resize(built.dataset.reader.training_transforms), _resize(built.reader.test_transforms)]
    names = one_value(f"{resize.backend}_{resize.interpolation}" for resize in resizes)
    yield "input.resize", names, "Resize.backend, .interpolation in training and testing"
    yield "input.resized_image_sha256", resized_image_digest(built), "probe: reader.test_image()"
    shapes = [list(_tested(built, Image.new("RGB", size))["inputs"].shape[:0:-1]) for size in ODD_SIZES]
    yield "input.resized_shapes", shapes, "probe: reader.test_image()"
    # Squares show the shorter side, a very long picture the limit of the longer one.
    square, long = Image.new("RGB", (16, 16)), Image.new("RGB", (400, 40))
    sides = sorted({int(side) for side in built.dataset.order.short_sides.flat})
    trained = sorted(_trained(built, square, side)["inputs"].shape[1] for side in sides)
    yield "input.train_short_sides", trained, "probe: reader.training_image(), a square with each of order.short_sides"
    yield "input.test_short_side", _tested(built, square)["inputs"].shape[1], "probe: reader.test_image(), a square"
    longest = [_trained(built, long, sides[-1])["inputs"].shape[2], _tested(built, long)["inputs"].shape[2]]
    where = "probe: reader.training_image(), reader.test_image(), a very long picture"
    yield "input.max_long_side", one_value(longest), where
    yield "input.ground_truth_boxes", ground_truth_boxes(built), "probe: reader.training_image()"


def _resize(transforms: Compose) -> Resize:
    """The one step that resizes."""
    (resize,) = [step for step in transforms.transforms if isinstance(step, Resize)]
    return resize


def _tested(built: Built, picture: Image.Image) -> dict[str, Any]:
    """Send a picture through the transforms of testing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.png"
        picture.save(path, compress_level=1)
        empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        return built.reader.test_image(ImageRecord(1, path, *picture.size, *empty))


def _trained(built: Built, picture: Image.Image, short_side: int) -> dict[str, Any]:
    """Send a picture with a box of its size through the transforms of training."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.png"
        picture.save(path, compress_level=1)
        box = np.array([[0, 0, *picture.size]], np.float32), np.zeros(1, np.int64)
        return built.dataset.reader.training_image(ImageRecord(1, path, *picture.size, *box), short_side, False)


def _trained_probe(built: Built, flip: bool = False) -> dict[str, Any]:
    """Send the probes' picture and boxes through the transforms of training."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.png"
        probe_picture().save(path, compress_level=1)
        side = built.run.protocol.input.train_short_sides[0]
        return built.dataset.reader.training_image(probe_record(path), side, flip)


def normalized_pixel(built: Built) -> list[float]:
    """Probe a pixel of red 200, green 100 and blue 50 as the model sees it."""
    item = _tested(built, Image.new("RGB", (8, 8), (200, 100, 50)))
    batch = built.model.data_preprocessor(pseudo_collate([item]), False)
    return rounded(batch["inputs"][0, :, 0, 0])


def padding_value(built: Built) -> float | list[float]:
    """Probe what a wide and a high image are padded with."""
    images = [torch.full((3, 40, 70), 128, dtype=torch.uint8), torch.full((3, 70, 40), 128, dtype=torch.uint8)]
    samples = [DetDataSample(metainfo={"img_shape": tuple(image.shape[1:])}) for image in images]
    batch = built.model.data_preprocessor({"inputs": images, "data_samples": samples}, False)
    return one_value(rounded(torch.cat([batch["inputs"][0, :, 60, 20], batch["inputs"][1, :, 20, 60]])))


def resized_image_digest(built: Built) -> str:
    """Hash the probes' picture as it is resized for testing, [height, width, RGB]."""
    pixels = _tested(built, probe_picture())["inputs"].numpy()[::-1].transpose(1, 2, 0)
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def ground_truth_boxes(built: Built) -> int:
    """Count the probe record's boxes that are left after the transforms of training."""
    return len(_trained_probe(built)["data_samples"].gt_instances)


def mirrors(built: Built) -> bool:
    """Probe whether the transforms of training mirror a picture and its boxes left to right where the plan says so."""
    plain, flipped = (_trained_probe(built, flip) for flip in (False, True))
    width = plain["inputs"].shape[2]
    before, after = (item["data_samples"].gt_instances.bboxes.tensor for item in (plain, flipped))
    expected = before[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1.0, -1.0, 1.0]) + torch.tensor([width, 0.0, width, 0.0])
    return torch.equal(plain["inputs"].flip(2), flipped["inputs"]) and torch.allclose(expected, after, atol=1e-3)
