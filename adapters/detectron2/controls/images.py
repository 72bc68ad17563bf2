"""From a picture to the tensor that the model sees."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from detectron2.data import transforms as T
from PIL import Image

from adapters.detectron2.controls.control_rows import Row, one_or_all, rounded
from adapters.detectron2.data import ImageReader
from adapters.inspection.probe_inputs import probe_picture, probe_record
from adapters.training.assembly import Built
from cascadebench.controls.definitions import ODD_SIZES
from cascadebench.datasets.prepared import ImageRecord


def rows(built: Built) -> Iterator[Row]:
    """Yield ``input.*``."""
    model, readers = built.model, (built.reader, built.dataset.reader)
    yield "input.pixel_mean", rounded(model.pixel_mean), "model.pixel_mean"
    yield "input.pixel_std", rounded(model.pixel_std), "model.pixel_std"
    yield "input.channel_order", one_or_all(channel_order(reader) for reader in readers), "probe: a red pixel"
    yield "input.size_divisor", model.backbone.size_divisibility, "model.backbone.size_divisibility"
    yield "input.padding_value", padding_value(built), "probe: two sizes through model.preprocess_image"
    yield from _sizes(built)
    with TemporaryDirectory() as folder:
        yield from _pictures(built, Path(folder))


def channel_order(reader: ImageReader) -> str:
    """Say whether a reader puts red first or last."""
    return "rgb" if reader.pixels(Image.new("RGB", (1, 1), (255, 0, 0)))[0, 0, 0] == 255 else "bgr"


def padding_value(built: Built) -> float | list[float]:
    """Normalise two grey images of different sizes as a batch; return what fills the smaller one up."""
    images = [{"image": torch.full((3, side, side), 77, dtype=torch.uint8)} for side in (64, 32)]
    small = built.model.preprocess_image(images).tensor[1]
    return one_or_all(rounded(torch.cat([small[:, 32:].flatten(), small[:, :, 32:].flatten()]).unique()))


def _sizes(built: Built) -> Iterator[Row]:
    """Squares show the shorter side, a very long picture the limit of the longer one."""
    training, test = built.dataset.reader, built.reader
    square = test.max_long_side
    sides = np.unique(built.dataset.order.short_sides).tolist()
    resizes = [training.resize(square, square, side) for side in sides]
    kinds = one_or_all(resizing(resize) for resize in (*resizes, test.test_transform(square, square)))
    yield "input.resize", kinds, "type(resize), resize.interp"
    yield "input.train_short_sides", sorted(resize.new_h for resize in resizes), "resize.new_h of squares, as ordered"
    yield "input.test_short_side", test.test_transform(square, square).new_h, "resize.new_h of a square picture"
    longest = one_or_all(
        resize.new_w
        for resize in (test.test_transform(100 * square, square), training.resize(100 * square, square, sides[-1]))
    )
    yield "input.max_long_side", longest, "resize.new_w of a very long picture"
    shapes = []
    for width, height in ODD_SIZES:
        blank = np.zeros((height, width, 3), dtype=np.uint8)
        resized = test.test_transform(width, height).apply_image(blank)
        shapes.append([resized.shape[1], resized.shape[0]])
    yield "input.resized_shapes", shapes, "probe: blank pictures through the test transform"


def resizing(resize: T.Transform) -> str:
    """Name library and filter of a resizing."""
    is_bilinear = type(resize) is T.ResizeTransform and resize.interp == Image.Resampling.BILINEAR
    return "pillow_bilinear" if is_bilinear else f"{type(resize).__name__} {getattr(resize, 'interp', '')}"


def _pictures(built: Built, folder: Path) -> Iterator[Row]:
    """What becomes of pictures that are read from files."""
    constant = ImageRecord(0, folder / "constant.png", 8, 8, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    Image.new("RGB", (8, 8), (200, 100, 50)).save(constant.path)
    seen = built.model.preprocess_image([built.reader.test_image(constant)]).tensor
    yield "input.normalized_pixel", rounded(seen[0, :, 0, 0]), "probe: a picture through reader and preprocess_image"
    record = probe_record(folder / "probe.png")
    probe_picture().save(record.path)
    pixels = built.reader.test_image(record)["image"].permute(1, 2, 0).numpy()
    if channel_order(built.reader) == "bgr":
        pixels = pixels[:, :, ::-1]
    hashed = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    yield "input.resized_image_sha256", hashed, "probe: a picture through the test reader"
    side = built.run.protocol.input.train_short_sides[0]
    left = built.dataset.reader.training_image(record, side, flip=False)["instances"]
    yield "input.ground_truth_boxes", len(left), "probe: a picture through the training reader"
