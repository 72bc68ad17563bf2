"""The embedded dataset: pictures of plain shapes on cluttered ground, drawn from a seed.

Every shape is a mask at :data:`SUPERSAMPLING` times the resolution. Boxes and areas are measured on what nearer shapes
and the image border leave of that mask, so they are tight to a fraction of a pixel. The segmentation is that visible
part too, as run lengths at the resolution of the image: a pixel belongs to a shape that shows in at least half of it.
Shadows, soft borders, weak contrast and clutter hide the borders from the detector, not from the annotations.
"""

import colorsys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cascadebench.core.errors import InputError
from cascadebench.core.files import write_json
from cascadebench.datasets.card import SPLITS, DatasetCard, Synthetic
from cascadebench.datasets.masks import encoded_bitmap

REVISION = 2
"""Raised when the same card would give other pictures or annotations."""
SUPERSAMPLING = 4
"""Mask pixels along one side of an image pixel."""
LEAST_VISIBLE = 0.5
"""Part of a shape's area that must show; a shape that would show less is not drawn at all."""

_UNIT = 128  # lengths below are in pixels of an image whose longer side is this
_SIZES = (14.0, 70.0)  # side of a shape before it is stretched
_LEAST_SIDE = 6.0  # of the visible box
_SHORT_SIDE = 0.75  # of a portrait's or landscape's shorter side to its longer
_MOST_OBJECTS = 6
_TYPICAL = 0.85  # share of shapes in a colour of their category


@dataclass(frozen=True)
class Shape:
    """One shape in its place."""

    label: int
    """Position of its category in the card."""
    mask: Image.Image
    """What the image border leaves of it, nearer shapes away: 0 and 255, 8 bit, at supersampled resolution."""
    box: tuple[float, float, float, float]
    """x, y, width, height of the visible part, in pixels of the picture."""
    area: float
    """Area of the visible part, in the same pixels squared."""
    visible: np.ndarray
    """Pixels of the picture in which the visible part covers at least half, bool [height, width]."""


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
        if category not in _OUTLINES:
            allowed = ", ".join(_OUTLINES)
            raise InputError(f"dataset {card.name!r}: categories: no outline for {category!r}; allowed: {allowed}")
    for position, split in enumerate(SPLITS):
        _draw_split(card.categories, data, position, split, folder)


def _draw_split(categories: tuple[str, ...], data: Synthetic, position: int, split: str, folder: Path) -> None:
    """Draw one split; `position` is that of the split in ``SPLITS``."""
    pictures = folder / "images" / split
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
    write_json(folder / f"{split}.json", {"images": images, "annotations": annotations, "categories": named})


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
    shapes = _placed(random, size, image_size / _UNIT, categories)
    canvas = _background(random, size, image_size / _UNIT)
    for shape in reversed(shapes):
        _paint(random, canvas, shape, len(categories), image_size / _UNIT)
    canvas += random.normal(0.0, random.uniform(2.0, 8.0), canvas.shape)
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8)), shapes


# Outlines: the corners, float64 [N, 2], of a shape whose sides are about 2, and those of its hole if it has one.


def _corners(radii: list[float]) -> np.ndarray:
    """Points at equal angles around the origin, float64 [N, 2]."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return np.array(radii)[:, None] * np.stack([np.sin(angles), -np.cos(angles)], axis=1)


_CIRCLE = _corners([1.0] * 72)
_OUTLINES: dict[str, tuple[np.ndarray, ...]] = {
    "disc": (_CIRCLE,),
    "square": (0.9 * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]),),
    "triangle": (_corners([1.2] * 3),),
    "ring": (_CIRCLE, 0.55 * _CIRCLE),
    "star": (_corners([1.15, 0.48] * 5),),
}


def _area(corners: np.ndarray) -> float:
    """Area of a simple polygon (shoelace formula), without regard to its orientation."""
    x, y = corners.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _mask(size: tuple[int, int], *outline: np.ndarray) -> Image.Image:
    """Mask of 0 and 255 at supersampled resolution; `outline` in image pixels, the hole second."""
    mask = Image.new("L", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING))
    for corners, fill in zip(outline, (255, 0), strict=False):
        ImageDraw.Draw(mask).polygon((corners * SUPERSAMPLING).ravel().tolist(), fill=fill)
    return mask


def _placed(random: np.random.Generator, size: tuple[int, int], unit: float, names: tuple[str, ...]) -> list[Shape]:
    """Place shapes nearest first, so that what each one shows is final once it is placed."""
    frequencies = np.linspace(1.35, 0.65, len(names))
    frequencies /= frequencies.sum()
    covered = np.zeros((size[1] * SUPERSAMPLING, size[0] * SUPERSAMPLING), dtype=bool)
    wanted = int(random.integers(1, _MOST_OBJECTS + 1))
    shapes: list[Shape] = []
    attempts = 0
    while len(shapes) < wanted and (attempts < 4 * wanted or not shapes):
        attempts += 1
        label = int(random.choice(len(names), p=frequencies))
        matrix, place = _stretch_and_turn(random, unit), random.uniform(0.06, 0.94, 2) * size
        outline = [corners @ matrix.T + place for corners in _OUTLINES[names[label]]]
        mask = _mask(size, *outline)
        whole = np.asarray(mask) > 0
        visible = whole & ~covered
        area = np.count_nonzero(visible) / SUPERSAMPLING**2
        if area < LEAST_VISIBLE * (_area(outline[0]) - sum(map(_area, outline[1:]))):
            continue
        box = _box(visible)
        if min(box[2:]) >= _LEAST_SIDE * unit:
            covered |= whole
            shapes.append(Shape(label, mask, box, area, _at_image_resolution(visible)))
    return shapes


def _stretch_and_turn(random: np.random.Generator, unit: float) -> np.ndarray:
    """Random size, aspect ratio and rotation, as a matrix [2, 2] from outlines to image pixels."""
    side = unit * float(np.exp(random.uniform(*np.log(_SIZES))))
    stretch = float(np.exp(random.uniform(-0.45, 0.45)))
    angle = random.uniform(0.0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return rotation @ np.diag([0.5 * side * np.sqrt(stretch), 0.5 * side / np.sqrt(stretch)])


def _at_image_resolution(visible: np.ndarray) -> np.ndarray:
    """Image pixels in which at least half of a supersampled mask is true, bool [height, width]."""
    height, width = visible.shape[0] // SUPERSAMPLING, visible.shape[1] // SUPERSAMPLING
    cells = visible.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING).sum(axis=(1, 3))
    return 2 * cells >= SUPERSAMPLING**2


def _box(visible: np.ndarray) -> tuple[float, float, float, float]:
    """x, y, width, height in image pixels of the true pixels of a supersampled mask."""
    columns = np.flatnonzero(visible.any(axis=0))
    rows = np.flatnonzero(visible.any(axis=1))
    left, right = int(columns[0]), int(columns[-1]) + 1
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return left / SUPERSAMPLING, top / SUPERSAMPLING, (right - left) / SUPERSAMPLING, (bottom - top) / SUPERSAMPLING


# Paint: canvases are float64 [height, width, 3] in 0..255, alphas float64 [height, width] in 0..1.


def _alpha(mask: Image.Image, blur: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """A supersampled mask at image resolution, blurred by `blur` and moved by `shift` image pixels."""
    small = mask.reduce(SUPERSAMPLING)
    if any(shift):
        small = small.transform(small.size, Image.Transform.AFFINE, (1, 0, -shift[0], 0, 1, -shift[1]))
    if blur:
        small = small.filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(small) / 255.0


def _blend(canvas: np.ndarray, alpha: np.ndarray, fill: np.ndarray) -> None:
    """Lay `fill`, a colour or a picture, over the canvas."""
    canvas += alpha[..., None] * (fill - canvas)


def _smooth_noise(random: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Noise of standard deviation about 1 that varies over a `cells`-th of the image, float64 [height, width]."""
    coarse = Image.fromarray(random.normal(0.0, 1.0, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)


def _ramp(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Position along a random direction, about -1..1 over the image, float64 [height, width]."""
    angle = random.uniform(0.0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    return np.cos(angle) * x + np.sin(angle) * y


def _texture(random: np.random.Generator, size: tuple[int, int], colour: np.ndarray) -> np.ndarray:
    """A picture around one colour: a gradient, stripes, a mottle or nearly plain."""
    kind = random.integers(4)
    if kind == 0:
        pattern = 1.5 * _ramp(random, size)
    elif kind == 1:
        pattern = np.sin(_ramp(random, size) * random.uniform(12.0, 40.0))
    else:
        pattern = _smooth_noise(random, size, int(random.integers(8, 30))) * (1.0 if kind == 2 else 0.3)
    return colour + pattern[..., None] * random.uniform(8.0, 30.0) * random.uniform(0.5, 1.0, 3)


def _background(random: np.random.Generator, size: tuple[int, int], unit: float) -> np.ndarray:
    """Gradient and slow noise with lines and lobed blobs, whose textures are those of the shapes."""
    ramp = np.clip(0.5 + 0.5 * _ramp(random, size), 0, 1)[..., None]
    first, second = random.uniform(40.0, 215.0, (2, 3))
    canvas = first + ramp * (0.6 * (second - first))
    for cells in (3, int(random.integers(8, 24))):
        amplitude = random.uniform(2.0, 14.0) * random.uniform(0.4, 1.0, 3)
        canvas += _smooth_noise(random, size, cells)[..., None] * amplitude
    for _ in range(random.integers(2, 7)):
        colour = canvas.mean(axis=(0, 1)) + random.uniform(-60.0, 60.0, 3)
        alpha = _alpha(_blob(random, size, unit), blur=float(random.choice([0.0, 0.8, 3.0])) * unit)
        _blend(canvas, random.uniform(0.5, 1.0) * alpha, _texture(random, size, colour))
    for _ in range(random.integers(0, 9)):
        line = Image.new("L", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING))
        ends = (random.uniform(-0.1, 1.1, (2, 2)) * line.size).ravel().tolist()
        ImageDraw.Draw(line).line(ends, fill=255, width=max(1, round(random.uniform(0.6, 2.2) * unit * SUPERSAMPLING)))
        _blend(canvas, random.uniform(0.3, 0.9) * _alpha(line), canvas.mean(axis=(0, 1)) + random.uniform(-70, 70, 3))
    return canvas


def _blob(random: np.random.Generator, size: tuple[int, int], unit: float) -> Image.Image:
    """Mask of a lobed outline that cannot be taken for one of the shapes."""
    angles = np.linspace(0.0, 2 * np.pi, 60, endpoint=False)
    radius = np.ones(60)
    for waves in (2, 3, 4, 5):
        radius += random.uniform(0.12, 0.28) * np.cos(waves * angles + random.uniform(0.0, 2 * np.pi))
    outline = np.clip(radius, 0.25, None)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return _mask(size, outline * unit * random.uniform(5.0, 26.0) + random.uniform(0.12, 0.88, 2) * size)


def _typical_colour(random: np.random.Generator, label: int, categories: int) -> np.ndarray:
    """Draw a colour of the category's own part of the hue circle, float64 [3] in 0..255."""
    hue = (label / categories + random.normal(0.0, 0.035)) % 1.0
    return 255.0 * np.array(colorsys.hsv_to_rgb(hue, random.uniform(0.55, 0.95), random.uniform(0.5, 0.95)))


def _paint(random: np.random.Generator, canvas: np.ndarray, shape: Shape, categories: int, unit: float) -> None:
    """Paint one shape, maybe with a shadow or a halo, a soft border or little contrast.

    Most shapes have a colour that is typical of their category, as things do: what a shape is can be learned in a few
    hundred steps, where exactly it ends takes longer.
    """
    size, mask = (canvas.shape[1], canvas.shape[0]), shape.mask
    ground = canvas[_alpha(mask) > 0].mean(axis=0)
    around = random.random()
    if around < 0.35:
        shift = random.uniform(1.0, 4.0, 2) * unit * random.choice([-1, 1], 2)
        shadow = _alpha(mask, random.uniform(1.0, 3.0) * unit, tuple(shift))
        _blend(canvas, random.uniform(0.25, 0.55) * shadow, np.zeros(3))
    elif around < 0.55:
        halo = np.clip(1.6 * _alpha(mask, blur=random.uniform(1.5, 4.0) * unit), 0, 1)
        _blend(canvas, random.uniform(0.25, 0.6) * halo, ground + random.uniform(-70.0, 90.0))
    direction = random.normal(0.0, 1.0, 3)
    weak = random.random() < 0.25
    contrast = (random.uniform(40.0, 60.0) if weak else random.uniform(70.0, 150.0)) * direction
    contrast /= np.linalg.norm(direction)
    # A channel that would leave the range turns the other way, or bright ground would swallow bright shapes.
    colour = np.where(np.abs(ground + contrast - 127.5) > 120.0, ground - contrast, ground + contrast)
    typical = _typical_colour(random, shape.label, categories)
    # On ground of its own colour a shape would vanish.
    if random.random() < _TYPICAL and np.linalg.norm(typical - ground) > 45.0:
        colour = typical
    soft = random.uniform(0.5, 1.2) * unit if random.random() < 0.3 else 0.0
    _blend(canvas, _alpha(mask, blur=soft), np.clip(_texture(random, size, np.clip(colour, 8, 247)), 0, 255))
