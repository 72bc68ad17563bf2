"""Fixed inputs of the probes, the same for every framework."""

import functools
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder, training_order
from cascadebench.study.protocol import Protocol
from cascadebench.study.run import Run

FEATURE_SIZES = ((32, 32), (16, 16), (8, 8), (4, 4), (2, 2))
"""Heights and widths of pyramid maps of a 128 x 128 image."""
PLANNED_IMAGES = 1000
"""So many images of an order are asked of the dataset one by one."""


def probe_records() -> list[ImageRecord]:
    """Two hundred records without pictures, a third of them portrait, with one box each."""
    box, label = np.array([[8.0, 8.0, 40.0, 40.0]], np.float32), np.zeros(1, np.int64)
    sizes = [(96, 128) if number % 3 == 0 else (128, 96) for number in range(200)]
    return [ImageRecord(1000 + n, Path("none.png"), w, h, box, label) for n, (w, h) in enumerate(sizes)]


def planned_order(run: Run) -> TrainingOrder:
    """Draw a run's whole training order over the probes' records."""
    drawn = drawn_order(run)
    # Of its own: what one run does to its order must not reach another's.
    return TrainingOrder(drawn.images.copy(), drawn.flips.copy(), drawn.short_sides.copy())


def drawn_order(run: Run) -> TrainingOrder:
    """The same, drawn once for all runs of a protocol and seed: a million images take a second."""
    return _drawn_order(run.protocol, run.seed)


@functools.lru_cache(maxsize=8)
def _drawn_order(protocol: Protocol, seed: int) -> TrainingOrder:
    return training_order(probe_records(), protocol, seed)


def probe_picture() -> Image.Image:
    """A fixed RGB picture, 150 wide and 100 high, of smooth and sharp parts."""
    y, x = np.mgrid[:100, :150]
    red, green = (x * 255 // 149), (y * 255 // 99)
    blue = np.where((x // 7 + y // 5) % 2, 230, 20)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def probe_record(path: Path) -> ImageRecord:
    """The record of :func:`probe_picture`, saved at `path`, with an ordinary, a small and a tiny box."""
    boxes = np.array([[20, 10, 90, 80], [100, 50, 104, 53], [60, 60, 60.4, 60.4]], np.float32)
    return ImageRecord(1, path, 150, 100, boxes, np.array([0, 1, 2], np.int64))


def probe_features(channels: int, batch: int = 2) -> list[torch.Tensor]:
    """Fixed pyramid maps of a batch of 128 x 128 images, float32 [batch, channels, h, w], finest first."""
    random = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, *size, generator=random) for size in FEATURE_SIZES]


def probe_boxes(number: int = 60) -> torch.Tensor:
    """Fixed boxes in a 128 x 128 image from tiny to whole, float32 [number, 4] as x1, y1, x2, y2."""
    random = torch.Generator().manual_seed(1)
    center = 128 * torch.rand(number, 2, generator=random)
    half = 2.0 * 30.0 ** torch.rand(number, 2, generator=random)
    return torch.cat([center - half, center + half], 1).clamp(0, 128)


def probe_bitmaps(boxes: torch.Tensor, width: int = 128, height: int = 128) -> torch.Tensor:
    """Masks that fill boxes, uint8 [N, height, width]."""
    x, y = torch.arange(width) + 0.5, torch.arange(height)[:, None] + 0.5
    left, top, right, bottom = (side[:, None, None] for side in boxes.cpu().T)
    return ((x > left) & (x < right) & (y > top) & (y < bottom)).to(torch.uint8)


def probe_ground_truth() -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes float32 [3, 4] and labels int64 [3] that some of :func:`probe_boxes` overlap."""
    return probe_boxes()[[3, 11, 29]] + torch.tensor([1.0, -1.0, 2.0, 1.0]), torch.tensor([0, 1, 2])
