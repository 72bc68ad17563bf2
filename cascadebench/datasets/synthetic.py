"""The embedded dataset: pictures of plain shapes on cluttered ground, drawn from a seed.

Every shape is a mask at ``SUPERSAMPLING`` times the resolution. Boxes and areas are measured on what nearer shapes and
the image border leave of that mask, so they are tight to a fraction of a pixel. The segmentation is that visible part
too, as run lengths at the resolution of the image: a pixel belongs to a shape that shows in at least half of it.
Shadows, soft borders, weak contrast and clutter hide the borders from the detector, not from the annotations.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from cascadebench.core.errors import InputError
from cascadebench.core.files import write_json
from cascadebench.datasets.card import SPLITS, DatasetCard, Synthetic
from cascadebench.datasets.masks import encoded_bitmap
from cascadebench.datasets.synthetic_paint import background, paint
from cascadebench.datasets.synthetic_shapes import OUTLINES, Shape, placed_shapes
from cascadebench.results.layout import DatasetFolder

REVISION = 2
"""Raised when the same card would give other pictures or annotations."""

_UNIT = 128  # lengths are in pixels of an image whose longer side is this
_SHORT_SIDE = 0.75  # of a portrait's or landscape's shorter side to its longer


def draw(card: DatasetCard, folder: Path) -> None:
    """Draw the pictures and write the annotations of both splits.

    ``folder/images/<split>/000001.png`` ... are RGB pictures, a third of them square, portrait and landscape each;
    ``folder/<split>.json`` is COCO JSON with category ids from 1 in the order of the card. Every byte is determined by
    the card; a picture depends on the seed, its split and its place in the split, not on the number of pictures.

    Parameters
    ----------
    card : DatasetCard
        A card whose data are :class:`~cascadebench.datasets.card.Synthetic`.
    folder : Path
        Is created; files of the same name are overwritten.

    Raises
    ------
    InputError
        If the card asks for another revision or for a category that has no outline; nothing is written then.
    """
    data = card.data
    if not isinstance(data, Synthetic):
        raise InputError(f"dataset {card.name!r}: data.kind: 'synthetic' is needed to draw it, found {data.kind!r}")
    if data.revision != REVISION:
        raise InputError(f"dataset {card.name!r}: data.revision: {data.revision} cannot be drawn; allowed: {REVISION}")
    for category in card.categories:
        if category not in OUTLINES:
            allowed = ", ".join(OUTLINES)
            raise InputError(f"dataset {card.name!r}: categories: no outline for {category!r}; allowed: {allowed}")
    for position, split in enumerate(SPLITS):
        _draw_split(card.categories, data, position, split, folder)


def _draw_split(categories: tuple[str, ...], data: Synthetic, position: int, split: str, folder: Path) -> None:
    """Draw one split; `position` is that of the split in ``SPLITS``."""
    prepared = DatasetFolder(folder)
    pictures = prepared.images / split
    pictures.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(data.train_images if split == "train" else data.val_images):
        random = np.random.default_rng([data.seed, position, index])
        picture, shapes = draw_image(random, data.image_size, categories)
        name = f"{index + 1:06d}.png"
        picture.save(pictures / name)
        images.append({"id": index + 1, "file_name": name, "width": picture.width, "height": picture.height})
        for shape in shapes:
            box = [round(value, 2) for value in shape.box]
            what = {"id": len(annotations) + 1, "image_id": index + 1, "category_id": shape.label + 1}
            size = [picture.height, picture.width]
            mask = {"size": size, "counts": encoded_bitmap(shape.visible)}
            annotations.append(what | {"bbox": box, "area": round(shape.area, 2), "iscrowd": 0, "segmentation": mask})
    named = [{"id": label + 1, "name": name} for label, name in enumerate(categories)]
    write_json(prepared.split(split), {"images": images, "annotations": annotations, "categories": named})


def draw_image(
    random: np.random.Generator, image_size: int, categories: tuple[str, ...]
) -> tuple[Image.Image, list[Shape]]:
    """Draw one picture.

    Parameters
    ----------
    random : numpy.random.Generator
        Decides everything.
    image_size : int
        Longer side in pixels; sizes, blurs and shadows grow with it.
    categories : tuple of str
        Names of outlines; the first are somewhat more frequent.

    Returns
    -------
    picture : PIL.Image.Image
        RGB, 8 bit.
    shapes : list of Shape
        Nearest first, at least one and at most six.
    """
    short = round(image_size * _SHORT_SIDE)
    size = ((image_size, image_size), (image_size, short), (short, image_size))[random.integers(3)]
    shapes = placed_shapes(random, size, image_size / _UNIT, categories)
    canvas = background(random, size, image_size / _UNIT)
    for shape in reversed(shapes):
        paint(random, canvas, shape, len(categories), image_size / _UNIT)
    canvas += random.normal(0.0, random.uniform(2.0, 8.0), canvas.shape)
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8)), shapes
