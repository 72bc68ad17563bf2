"""From a picture to the tensor that the model sees."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from detectron2.data import transforms as T
from PIL import Image

from adapters.detectron2.data import ImageReader
from adapters.inspection.control_rows import Row, one_or_all, rounded
from adapters.inspection.image_probes import normalized_pixel, padding_value, resized_image_digest, saved_probe
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
    filled = padding_value(lambda images: built.model.preprocess_image([{"image": one} for one in images]).tensor)
    yield "input.padding_value", filled, "probe: two sizes through model.preprocess_image"
    yield from _sizes(built)
    yield from _pictures(built)


def channel_order(reader: ImageReader) -> str:
    """Say whether a reader puts red first or last."""
    return "rgb" if reader.pixels(Image.new("RGB", (1, 1), (255, 0, 0)))[0, 0, 0] == 255 else "bgr"


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


def _pictures(built: Built) -> Iterator[Row]:
    """What becomes of pictures that are read from files."""
    pixel = normalized_pixel(lambda record: built.model.preprocess_image([built.reader.test_image(record)]).tensor)
    yield "input.normalized_pixel", pixel, "probe: a picture through reader and preprocess_image"
    digest = resized_image_digest(partial(_tested, built))
    yield "input.resized_image_sha256", digest, "probe: a picture through the test reader"
    side = built.run.protocol.input.train_short_sides[0]
    with saved_probe() as record:
        left = built.dataset.reader.training_image(record, side, flip=False)["instances"]
    yield "input.ground_truth_boxes", len(left), "probe: a picture through the training reader"


def _tested(built: Built, record: ImageRecord) -> np.ndarray:
    """Pixels of a picture as the test reader gives them, RGB."""
    pixels = built.reader.test_image(record)["image"].permute(1, 2, 0).numpy()
    return pixels[:, :, ::-1] if channel_order(built.reader) == "bgr" else pixels
