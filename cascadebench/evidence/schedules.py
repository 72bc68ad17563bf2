"""Published training schedules, and how a run's own compares with them."""

from functools import cache
from pathlib import Path
from typing import Annotated, Self

from annotated_types import Ge, Gt
from pydantic import model_validator

from cascadebench.core.configuration import Configuration, read_model
from cascadebench.core.errors import InputError
from cascadebench.study.protocol import Protocol

PATH = Path(__file__).parent / "schedules.yaml"
TRAINING_IMAGES = {"coco2017": 117_266, "voc0712": 16_551}
"""Training images with boxes, which an epoch passes over."""
SAME_LENGTH = 0.05
"""Two schedules whose numbers of images differ by no more than this share are of one length: Detectron's 1x is 2.3%
longer than MMDetection's."""


class Schedule(Configuration):
    """One schedule; null: the source does not say."""

    name: str
    words: str
    """As the source calls it."""
    dataset: str
    iterations: Annotated[int, Ge(1)] | None = None
    epochs: Annotated[int, Ge(1)] | None = None
    batch_size: Annotated[int, Ge(1)] | None = None
    base_lr: Annotated[float, Gt(0)] | None = None
    rois_per_image: Annotated[int, Ge(1)] | None = None

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.iterations is not None and (self.epochs is not None or self.batch_size is None):
            raise ValueError("iterations need batch_size and exclude epochs")
        if self.epochs is not None and self.dataset not in TRAINING_IMAGES:
            raise ValueError(f"epochs need a dataset of known size: {', '.join(TRAINING_IMAGES)}")
        return self

    @property
    def images(self) -> int | None:
        """Images that pass through training, repetitions counted."""
        if self.iterations is not None and self.batch_size is not None:
            return self.iterations * self.batch_size
        return self.epochs * TRAINING_IMAGES[self.dataset] if self.epochs else None


class SchedulesFile(Configuration):
    """``schedules.yaml``."""

    title: str
    schedules: tuple[Schedule, ...]


@cache
def load_schedules(path: Path = PATH) -> dict[str, Schedule]:
    """Read the published schedules by name; raises InputError if two have one name."""
    found: dict[str, Schedule] = {}
    for schedule in read_model(SchedulesFile, path).schedules:
        if schedule.name in found:
            raise InputError(f"{path}: schedules: the name {schedule.name!r} is given twice")
        found[schedule.name] = schedule
    return found


def find_schedule(name: str, asked_by: str) -> Schedule:
    """Find a published schedule; raises InputError listing the names that exist."""
    schedules = load_schedules()
    if name not in schedules:
        raise InputError(f"{asked_by}: unknown schedule {name!r}; there are: {', '.join(schedules)}")
    return schedules[name]


def length_difference(protocol: Protocol, schedule: Schedule) -> str | None:
    """Say how much longer or shorter a protocol trains than a published schedule; None if it is the same length."""
    here, there = protocol.schedule.iterations * protocol.schedule.batch_size, schedule.images
    if there is None:
        return f"training: {here:,} images here, and the source's schedule ({schedule.words}) is not known in numbers"
    if abs(here - there) <= SAME_LENGTH * there:
        return None
    return f"training: {here:,} images here, {there:,} in the source ({schedule.words})"


def setting_differences(protocol: Protocol, schedule: Schedule) -> list[str]:
    """Say where batch size, learning rate or RoIs per image depart from a published schedule's, if it gives them."""
    return [
        f"{name}: {here} here, {there} in the source"
        for name, (here, there) in _settings(protocol, schedule).items()
        if there is not None and here != there
    ]


def settings_not_given(protocol: Protocol, schedule: Schedule) -> str | None:
    """Say which of batch size, learning rate and RoIs per image a published schedule leaves out; None if none."""
    absent = [name for name, (_, there) in _settings(protocol, schedule).items() if there is None]
    return f"not given in the source: {', '.join(absent)}" if absent else None


def _settings(protocol: Protocol, schedule: Schedule) -> dict[str, tuple[float, float | None]]:
    """Settings of a protocol beside those of a published schedule."""
    return {
        "batch size": (protocol.schedule.batch_size, schedule.batch_size),
        "learning rate": (protocol.schedule.base_lr, schedule.base_lr),
        "RoIs per image": (protocol.heads.rois_per_image, schedule.rois_per_image),
    }
