"""``examples.json``: a few images with their objects and every detector's detections."""

from pathlib import Path
from typing import Literal

from cascadebench.core.configuration import Configuration, validated
from cascadebench.core.files import read_json

Reason = Literal["more found", "fewer found", "evenly spaced"]


class Box(Configuration):
    """A box in pixels of the original image."""

    category: str
    x: float
    y: float
    w: float
    h: float


class Detection(Box):
    """A detection; `matched` if it found an object."""

    score: float
    matched: bool


class Detected(Configuration):
    """What one run detects on one image, best score first."""

    run: str
    detections: tuple[Detection, ...]
    missed: tuple[int, ...]
    """Places of the objects that no detection found, in the image's list."""


class ExampleImage(Configuration):
    """One image."""

    id: int
    file_name: str
    width: int
    height: int
    reason: Reason
    """Why it was chosen."""
    difference: int
    """Objects that the compared detector finds more than the baseline, over all frameworks."""
    thumbnail: str | None
    """JPEG, relative to the study's folder; null: the picture could not be read."""
    objects: tuple[Box, ...]
    """Ground truth without crowd regions."""
    detected: tuple[Detected, ...]


class ExamplesFile(Configuration):
    """``results/studies/<study>/examples.json``."""

    score: float
    """Lowest score of the detections that take part."""
    iou: float
    """IoU from which a detection finds an object of its class."""
    baseline: str
    compared: str | None
    """Label of the detector whose differences to the baseline chose images; null: there was none."""
    compared_runs: tuple[tuple[str, str], ...]
    """Pairs of runs, the compared detector's and the baseline's, one for each framework that has both."""
    images_in_all: int
    images: tuple[ExampleImage, ...]


def read_examples(path: Path) -> ExamplesFile:
    """Read ``examples.json``; raises InputError if it is missing or none."""
    return validated(ExamplesFile, read_json(path), path)
