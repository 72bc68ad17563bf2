"""From a picture to the tensor that the model sees."""

from collections.abc import Iterator

import numpy as np
from detectron2.data import transforms as T
from PIL import Image

from adapters.detectron2.data import ImageReader
from adapters.inspection.control_rows import Row, one_or_all, rounded
from adapters.inspection.image_probes import ProbedImages, image_rows
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``input.*``."""
    model, images = built.model, probed_images(built)
    yield "input.pixel_mean", rounded(model.pixel_mean), "model.pixel_mean"
    yield "input.pixel_std", rounded(model.pixel_std), "model.pixel_std"
    orders = one_or_all(channel_order(reader) for reader in (images.test, images.training))
    yield "input.channel_order", orders, "probe: a red pixel"
    yield "input.size_divisor", model.backbone.size_divisibility, "model.backbone.size_divisibility"
    square = images.test.max_long_side
    resizes = [images.training.resize(square, square, side) for side in images.sides]
    kinds = one_or_all(resizing(resize) for resize in (*resizes, images.test.test_transform(square, square)))
    yield "input.resize", kinds, "type(resize), resize.interp"
    yield from image_rows(images)


def probed_images(built: Built) -> ProbedImages:
    """Let the probes ask for the images of what was built."""
    return ProbedImages(
        built.reader,
        built.dataset.reader,
        np.unique(built.dataset.order.short_sides).tolist(),
        lambda item: item["image"],
        lambda item: item["instances"].gt_boxes.tensor,
        lambda image: {"image": image},
        lambda items: built.model.preprocess_image(items).tensor,
        channel_order(built.reader),
    )


def channel_order(reader: ImageReader) -> str:
    """Say whether a reader puts red first or last."""
    return "rgb" if reader.pixels(Image.new("RGB", (1, 1), (255, 0, 0)))[0, 0, 0] == 255 else "bgr"


def resizing(resize: T.Transform) -> str:
    """Name library and filter of a resizing."""
    is_bilinear = type(resize) is T.ResizeTransform and resize.interp == Image.Resampling.BILINEAR
    return "pillow_bilinear" if is_bilinear else f"{type(resize).__name__} {getattr(resize, 'interp', '')}"
