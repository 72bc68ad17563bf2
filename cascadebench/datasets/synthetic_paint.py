"""How pictures of the embedded dataset are painted: ground, clutter, and shapes with shadows and soft borders.

Canvases are float64 [height, width, 3] in 0..255, alphas float64 [height, width] in 0..1.
"""

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cascadebench.datasets.synthetic_shapes import SUPERSAMPLING, Shape, mask_of

_TYPICAL = 0.85  # share of shapes in a colour of their category


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


def background(random: np.random.Generator, size: tuple[int, int], unit: float) -> np.ndarray:
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
    return mask_of(size, outline * unit * random.uniform(5.0, 26.0) + random.uniform(0.12, 0.88, 2) * size)


def _typical_colour(random: np.random.Generator, label: int, categories: int) -> np.ndarray:
    """Draw a colour of the category's own part of the hue circle, float64 [3] in 0..255."""
    hue = (label / categories + random.normal(0.0, 0.035)) % 1.0
    return 255.0 * np.array(colorsys.hsv_to_rgb(hue, random.uniform(0.55, 0.95), random.uniform(0.5, 0.95)))


def paint(random: np.random.Generator, canvas: np.ndarray, shape: Shape, categories: int, unit: float) -> None:
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
