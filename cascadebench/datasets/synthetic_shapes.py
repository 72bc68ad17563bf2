"""The shapes of the embedded dataset: their outlines, and where they lie in a picture."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLING = 4
"""Mask pixels along one side of an image pixel."""
LEAST_VISIBLE = 0.5
"""Part of a shape's area that must show; a shape that would show less is not drawn at all."""

_SIZES = (14.0, 70.0)  # side of a shape before it is stretched, in units
_LEAST_SIDE = 6.0  # of the visible box, in units
_MOST_OBJECTS = 6


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


# Outlines: the corners, float64 [N, 2], of a shape whose sides are about 2, and those of its hole if it has one.


def _corners(radii: list[float]) -> np.ndarray:
    """Points at equal angles around the origin, float64 [N, 2]."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return np.array(radii)[:, None] * np.stack([np.sin(angles), -np.cos(angles)], axis=1)


_CIRCLE = _corners([1.0] * 72)
OUTLINES: dict[str, tuple[np.ndarray, ...]] = {
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


def mask_of(size: tuple[int, int], *outline: np.ndarray) -> Image.Image:
    """Mask of 0 and 255 at supersampled resolution; `outline` in image pixels, the hole second."""
    mask = Image.new("L", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING))
    for corners, fill in zip(outline, (255, 0), strict=False):
        ImageDraw.Draw(mask).polygon((corners * SUPERSAMPLING).ravel().tolist(), fill=fill)
    return mask


def placed_shapes(
    random: np.random.Generator, size: tuple[int, int], unit: float, names: tuple[str, ...]
) -> list[Shape]:
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
        outline = [corners @ matrix.T + place for corners in OUTLINES[names[label]]]
        mask = mask_of(size, *outline)
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
