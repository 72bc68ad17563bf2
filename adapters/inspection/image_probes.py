"""Probes of the way from a picture to the tensor that the model sees; the same in every framework."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adapters.data.training_dataset import ImageReader
from adapters.inspection.control_rows import Row, one_or_all, rounded
from adapters.inspection.probe_inputs import probe_picture, probe_record
from cascadebench.controls.definitions import ODD_SIZES
from cascadebench.datasets.prepared import ImageRecord

Box = tuple[float, float, float, float]


@contextmanager
def saved(picture: Image.Image, boxes: Sequence[Box] = ()) -> Iterator[ImageRecord]:
    """Save a picture while the block runs; its boxes are all of the first class."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "probe.png"
        picture.save(path, compress_level=1)
        truth = np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), np.int64)
        yield ImageRecord(1, path, *picture.size, *truth)


@contextmanager
def saved_probe() -> Iterator[ImageRecord]:
    """Save the probes' picture while the block runs; its boxes are the probes'."""
    with saved(probe_picture()) as record:
        yield probe_record(record.path)


class ProbedImages(NamedTuple):
    """What was built reads images, as the probes ask for them.

    Attributes
    ----------
    test, training : ImageReader
        Of the test and of the training.
    sides : list of int
        Shorter sides that the training order has drawn, ascending.
    pixels, boxes : callable
        From what a reader gives to its image, uint8 [3, H, W], and to its ground truth, float [N, 4].
    packed : callable
        From an image, uint8 [3, H, W], to what a reader gives in testing.
    normalized : callable
        From several of these to the batch that the model sees.
    order : str
        Of the channels that the reader of the test gives: rgb or bgr.
    """

    test: ImageReader
    training: ImageReader
    sides: list[int]
    pixels: Callable[[dict], Tensor]
    boxes: Callable[[dict], Tensor]
    packed: Callable[[Tensor], dict]
    normalized: Callable[[list[dict]], Tensor]
    order: str

    def tested_size(self, size: tuple[int, int]) -> list[int]:
        """Width and height that a picture has in testing."""
        with saved(Image.new("RGB", size)) as record:
            return list(self.pixels(self.test.test_image(record)).shape[:0:-1])

    def trained_size(self, size: tuple[int, int], short_side: int) -> list[int]:
        """Width and height that a picture, with a box of its size, has in training."""
        with saved(Image.new("RGB", size), [(0, 0, *size)]) as record:
            return list(self.pixels(self.training.training_image(record, short_side, False)).shape[:0:-1])

    def mirrors(self) -> bool:
        """Whether training mirrors a picture and its boxes left to right where the plan says so."""
        with saved_probe() as record:
            plain, flipped = (self.training.training_image(record, self.sides[0], flip) for flip in (False, True))
        before, after = self.boxes(plain), self.boxes(flipped)
        across = before.new_tensor([-1.0, 1.0, -1.0, 1.0])
        expected = before[:, [2, 1, 0, 3]] * across + (across < 0) * self.pixels(plain).shape[2]
        same = torch.equal(self.pixels(plain).flip(2), self.pixels(flipped))
        return same and torch.allclose(expected, after, atol=1e-3)


def image_rows(images: ProbedImages) -> Iterator[Row]:
    """Yield of ``input.*`` what probes show."""
    with saved(Image.new("RGB", (8, 8), (200, 100, 50))) as record:
        pixel = rounded(images.normalized([images.test.test_image(record)])[0, :, 0, 0])
    yield "input.normalized_pixel", pixel, "probe: a picture through reader.test_image() and the model's preprocessing"
    grey = [images.packed(torch.full((3, side, side), 77, dtype=torch.uint8)) for side in (64, 32)]
    small = images.normalized(grey)[1]
    filled = one_or_all(rounded(torch.cat([small[:, 32:].flatten(), small[:, :, 32:].flatten()]).unique()))
    yield "input.padding_value", filled, "probe: two sizes through the model's preprocessing"
    with saved_probe() as record:
        left = len(images.boxes(images.training.training_image(record, images.sides[0], False)))
        resized = images.pixels(images.test.test_image(record)).permute(1, 2, 0).numpy()
    yield "input.ground_truth_boxes", left, "probe: dataset.reader.training_image()"
    resized = resized[:, :, ::-1] if images.order == "bgr" else resized
    digest = hashlib.sha256(np.ascontiguousarray(resized).tobytes()).hexdigest()
    yield "input.resized_image_sha256", digest, "probe: reader.test_image()"
    yield "input.resized_shapes", [images.tested_size(size) for size in ODD_SIZES], "probe: reader.test_image()"
    # Squares show the shorter side, a very long picture the limit of the longer one.
    square, long = (16, 16), (400, 40)
    trained = sorted(images.trained_size(square, side)[1] for side in images.sides)
    where = "probe: dataset.reader.training_image(), a square with each of order.short_sides"
    yield "input.train_short_sides", trained, where
    yield "input.test_short_side", images.tested_size(square)[1], "probe: reader.test_image(), a square"
    longest = one_or_all([images.trained_size(long, images.sides[-1])[0], images.tested_size(long)[0]])
    yield "input.max_long_side", longest, "probe: both readers, a very long picture"
