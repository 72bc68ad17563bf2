"""Images that tests draw: a handful of rectangles, or few images of the embedded dataset."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cascadebench.datasets.card import load_dataset_card
from cascadebench.datasets.prepare import prepare
from cascadebench.datasets.prepared import ImageRecord


def rectangles(folder: Path, seen: int = 5, grey: bool = False) -> list[ImageRecord]:
    """Six images of noise, the second portrait; the first `seen` have one or two rectangles each, with masks.

    `grey`: the last is of a single grey.
    """
    random = np.random.default_rng(0)
    found = []
    for number in range(6):
        width, height = (96, 128) if number == 1 else (128, 96)
        noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(np.full_like(noise, 128) if grey and number == 5 else noise)
        boxes = []
        for _ in range(1 + number % 2 if number < seen else 0):
            x, y = (int(value) for value in random.integers(0, 50, 2))
            box = (x, y, x + int(random.integers(20, 45)), y + int(random.integers(20, 45)))
            ImageDraw.Draw(picture).rectangle(box, fill=tuple(int(value) for value in random.integers(0, 256, 3)))
            boxes.append(box)
        path = folder / f"{number}.png"
        picture.save(path)
        array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        labels = np.arange(len(boxes), dtype=np.int64)
        masks = tuple([np.array([x, y, right, y, right, bottom, x, bottom], float)] for x, y, right, bottom in boxes)
        found.append(ImageRecord(10 + number, path, width, height, array, labels, masks))
    return found


def few_shapes(folder: Path, train: int, val: int) -> Path:
    """Prepare the embedded dataset with so few images in a folder; returns the folder."""
    card = load_dataset_card("shapes", "test")
    few = card.data.model_copy(update={"train_images": train, "val_images": val})
    prepare(card.model_copy(update={"data": few}), folder)
    return folder
