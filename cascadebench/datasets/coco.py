"""COCO annotation files: their records, strictly typed, and the checks that need nothing but the file."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel, ConfigDict, FailFast, StringConstraints, ValidationError

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_bytes
from cascadebench.datasets.masks import problem_with

Id = Annotated[int, Ge(0), Le(2**63 - 1)]
Side = Annotated[int, Gt(0)]
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00]+$")]


class Record(BaseModel):
    """Base of the records: strict types, finite numbers; other keys (licence, captions, ...) are not read."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class Image(Record):
    """One picture; `width` and `height` in pixels."""

    id: Id
    file_name: Name
    width: Side
    height: Side


class Annotation(Record):
    """One box: x, y, width, height in pixels."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    area: Annotated[float, Ge(0)] | None = None
    """In pixels squared; None if the file does not say."""
    iscrowd: Annotated[int, Ge(0), Le(1)] = 0


class SegmentedAnnotation(Annotation):
    """One box and the mask of what is in it."""

    segmentation: Any = None
    """As :mod:`cascadebench.datasets.masks` describes it, but not checked yet."""


class Category(Record):
    """One category."""

    id: Id
    name: Name


class Annotations(Record):
    """A whole file."""

    # FailFast: one error is told, so a file that is wrong throughout need not build a million of them.
    images: Annotated[list[Image], MinLen(1), FailFast()]
    annotations: Annotated[list[Annotation], MinLen(1), FailFast()]
    categories: Annotated[list[Category], MinLen(1), FailFast()]


class SegmentedAnnotations(Annotations):
    """A whole file with masks."""

    annotations: Annotated[list[SegmentedAnnotation], MinLen(1), FailFast()]


@dataclass(frozen=True)
class AnnotationFile:
    """What was read from where."""

    path: Path
    sha256: str
    """Of its bytes, 64 hex digits."""
    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]
    """Sorted by id, as images and annotations are."""


def read_annotations(path: Path, segmentations: bool = False) -> AnnotationFile:
    """Read a COCO annotation file.

    Parameters
    ----------
    segmentations : bool
        Read masks too: every annotation is a :class:`SegmentedAnnotation`, whose segmentation may be missing or wrong
        (:func:`check_segmentations`).

    Raises
    ------
    InputError
        If it cannot be read, is not JSON, lacks a list or has an empty one, has a record with a missing or ill-typed
        field (numbers must be finite; a boolean or a string is no number), an id or a category's name twice, or an
        annotation of an image or category that is not listed. Names the file, the record and the field.
    """
    content = read_bytes(path)
    try:
        found = (SegmentedAnnotations if segmentations else Annotations).model_validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise InputError(f"{path}: {_place(problem['loc'], content)}{_sentence(problem)}") from error
    for key in ("images", "annotations", "categories"):
        twice = first_twice(record.id for record in getattr(found, key))
        if twice is not None:
            raise InputError(f"{path}: {key}: id {twice} is given twice; ids must differ")
    name = first_twice(category.name for category in found.categories)
    if name is not None:
        raise InputError(f"{path}: categories: name {name!r} is given twice; names must differ")
    _check_references(path, found)
    parts = (sorted(part, key=lambda record: record.id) for part in (found.images, found.annotations, found.categories))
    return AnnotationFile(path, hashlib.sha256(content).hexdigest(), *parts)


def first_twice(values: Iterable[Any]) -> Any | None:
    """Return the first value that occurs more than once, None if all differ."""
    return next((value for value, count in Counter(values).items() if count > 1), None)


def check_same_categories(train: AnnotationFile, val: AnnotationFile) -> None:
    """Raise InputError naming the first category that two files do not share."""
    for ours, theirs in zip(train.categories, val.categories, strict=False):
        if ours != theirs:
            raise InputError(
                f"{val.path}: categories: id {theirs.id} {theirs.name!r} where {train.path} has id {ours.id} "
                f"{ours.name!r}; train and val must have the same"
            )
    if len(train.categories) != len(val.categories):
        raise InputError(
            f"{val.path}: categories: {len(val.categories)} of them, {len(train.categories)} in {train.path}; "
            "train and val must have the same"
        )


def check_segmentations(file: AnnotationFile) -> None:
    """Raise InputError naming the first annotation whose segmentation is missing, malformed or not of its image."""
    size_of = {image.id: (image.width, image.height) for image in file.images}
    for annotation in file.annotations:
        where = f"{file.path}: annotation {annotation.id}: segmentation"
        if not annotation.segmentation:
            without = sum(not other.segmentation for other in file.annotations)
            raise InputError(
                f"{where}: missing, as in {without} of {len(file.annotations)} annotations; 'segmentations: true' in "
                "the card asks for all"
            )
        problem = problem_with(annotation.segmentation, *size_of[annotation.image_id])
        if problem:
            raise InputError(f"{where}: {problem}")


def _check_references(path: Path, found: Annotations) -> None:
    image_ids = {image.id for image in found.images}
    category_ids = {category.id for category in found.categories}
    for annotation in found.annotations:
        if annotation.image_id not in image_ids:
            raise InputError(f"{path}: annotation {annotation.id}: image_id: no image has id {annotation.image_id}")
        if annotation.category_id not in category_ids:
            allowed = ", ".join(map(str, sorted(category_ids)))
            raise InputError(
                f"{path}: annotation {annotation.id}: category_id: {annotation.category_id} is not listed; "
                f"allowed: {allowed}"
            )


def _place(location: tuple[int | str, ...], content: bytes) -> str:
    """Where a problem is: ``annotations[17] (id 18): bbox[2]: ``; empty for the whole file."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f": {part}" for part in location).removeprefix(": ")
    if len(location) > 1:
        record = json.loads(content)[location[0]][location[1]]
        number = record.get("id") if isinstance(record, dict) else None
        start = f"{location[0]}[{location[1]}]"
        if isinstance(number, int):
            text = text.replace(start, f"{start} (id {number})", 1)
    return f"{text}: " if text else ""


def _sentence(problem: dict[str, Any]) -> str:
    """What is wrong, with the value if it is a short one."""
    if problem["type"] == "missing":
        return "missing"
    if problem["type"] == "json_invalid":
        return f"not valid JSON: {problem['ctx']['error']}"
    message = f"{problem['msg'][0].lower()}{problem['msg'][1:]}"
    value = problem["input"]
    return message if isinstance(value, list | dict) else f"{message}; found {str(value)[:60]!r}"
