"""Probes of the way from a picture to the tensor that the model sees."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adapters.inspection.control_rows import one_or_all, rounded
from adapters.inspection.probe_inputs import probe_picture, probe_record
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


def normalized_pixel(seen: Callable[[ImageRecord], Tensor]) -> list[float]:
    """Probe a pixel of red 200, green 100 and blue 50; `seen` gives the normalised batch [1, 3, H, W] of a record."""
    with saved(Image.new("RGB", (8, 8), (200, 100, 50))) as record:
        return rounded(seen(record)[0, :, 0, 0])


def padding_value(normalized: Callable[[list[Tensor]], Tensor]) -> float | list[float]:
    """Probe what fills up the smaller of two grey images, uint8 [3, H, W], that are normalised as a batch."""
    small = normalized([torch.full((3, side, side), 77, dtype=torch.uint8) for side in (64, 32)])[1]
    return one_or_all(rounded(torch.cat([small[:, 32:].flatten(), small[:, :, 32:].flatten()]).unique()))


def resized_image_digest(tested: Callable[[ImageRecord], np.ndarray]) -> str:
    """Hash the probes' picture as it is resized for testing; `tested` gives it as uint8 [H, W, RGB]."""
    with saved_probe() as record:
        return hashlib.sha256(np.ascontiguousarray(tested(record)).tobytes()).hexdigest()
