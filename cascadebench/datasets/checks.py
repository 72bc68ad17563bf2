"""What a dataset is checked for before it is written: counts, categories, pictures and boxes, against its card."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from cascadebench.core.errors import InputError
from cascadebench.core.files import inside
from cascadebench.datasets.card import AnnotationsAlone, DatasetCard, Folder, Split, Voc
from cascadebench.datasets.coco import (
    AnnotationFile,
    Image,
    SegmentedAnnotation,
    check_same_categories,
    check_segmentations,
    read_annotations,
)
from cascadebench.datasets.content import split_content
from cascadebench.datasets.voc import read_voc

BORDER_TOLERANCE = 1.0
"""Pixels by which a box may leave its image, as rounding in real annotation files does; such boxes are clipped."""
MOST_PICTURES_OPENED = 2000
"""Pictures per split whose size is compared with the annotation file; of more, an evenly spread sample is opened."""

_NOISE = 1e-6  # pixels: the error of x + width in floating point, which is no crossing of the border


@dataclass(frozen=True)
class CheckedSplit:
    """One split that passed every check, and its entry in the lock."""

    file: AnnotationFile
    pictures: dict[Path, Image]
    annotations: list[dict[str, Any]]
    lock: dict[str, Any]


def checked_split(card: DatasetCard, data: Folder | Voc | AnnotationsAlone, split: str) -> CheckedSplit:
    """Read one split and run every check on it; annotations that have no pictures pass those that need none."""
    root, place = data.find(card.name), f"dataset {card.name!r}: data.{split}"
    declared = getattr(data, split)
    image_root = None
    if isinstance(data, AnnotationsAlone):
        file = read_annotations(inside(root, declared, place))
        _check_declared(file, data, place.removesuffix(f".{split}"))
    elif isinstance(data, Voc):
        file, image_root = read_voc(root, declared, card.categories, BORDER_TOLERANCE, place), root
    else:
        file, image_root = _read_coco(root, declared, data.segmentations, place)
    _check_categories(file, card)
    pictures = {} if image_root is None else _found_pictures(file, image_root)
    _check_sizes(file, pictures)
    drop = isinstance(data, Folder) and data.boxes_without_area == "drop"
    annotations, dropped, clipped = _checked_boxes(file, drop)
    lock = {} if image_root is None else {"image_root": str(image_root)}
    lock |= {
        "images": len(file.images),
        "annotations": len(annotations),
        "crowd": sum(annotation["iscrowd"] for annotation in annotations),
        "dropped": dropped,
        "clipped": clipped,
        "source_sha256": file.sha256,
    }
    names = {category.id: category.name for category in file.categories}
    lock |= split_content((image.id for image in file.images), annotations, names)
    return CheckedSplit(file, pictures, annotations, lock)


def _read_coco(root: Path, declared: Split, segmentations: bool, asked_by: str) -> tuple[AnnotationFile, Path]:
    """Read a COCO annotation file and find the folder of its pictures."""
    file = read_annotations(inside(root, declared.annotations, f"{asked_by}.annotations"), segmentations)
    _check_declared(file, declared, asked_by)
    if segmentations:
        check_segmentations(file)
    image_root = inside(root, declared.images, f"{asked_by}.images")
    if not image_root.is_dir():
        raise InputError(f"{asked_by}.images: {image_root} is not a folder")
    return file, image_root


def declared_of(file: AnnotationFile) -> dict[str, Any]:
    """What a card may declare about an annotation file."""
    return {"image_count": len(file.images), "annotation_count": len(file.annotations), "sha256": file.sha256}


def _check_declared(file: AnnotationFile, declared: Split | AnnotationsAlone, asked_by: str) -> None:
    """Compare checksum and counts with those of the card, where it has them."""
    for key, found in declared_of(file).items():
        expected = getattr(declared, key, None)
        if expected is not None and expected != found:
            raise InputError(f"{file.path}: its {key} is {found}; {asked_by}.{key} expects {expected}")


def _check_categories(file: AnnotationFile, card: DatasetCard) -> None:
    """The file's categories in the order of their ids are the card's."""
    found = [category.name for category in file.categories]
    expected = list(card.categories)
    if found == expected:
        return
    missing, unknown = ([name for name in a if name not in b] for a, b in ((expected, found), (found, expected)))
    if missing or unknown:
        what = f"lacks {', '.join(missing) or 'none'} and has unexpected {', '.join(unknown) or 'none'}"
    else:
        place = next(place for place, name in enumerate(found) if name != expected[place])
        what = f"has {found[place]!r} at place {place + 1} in the order of ids, expected {expected[place]!r}"
    raise InputError(f"{file.path}: categories: {what}; the card of {card.name!r} lists {', '.join(expected)}")


def _found_pictures(file: AnnotationFile, root: Path) -> dict[Path, Image]:
    """Resolve every picture below `root`; none may leave it, be listed twice or be missing."""
    pictures: dict[Path, Image] = {}
    for image in file.images:
        path = inside(root, image.file_name, f"{file.path}: image {image.id}: file_name")
        if path in pictures:
            other = pictures[path].id
            raise InputError(f"{file.path}: image {image.id}: file_name: {image.file_name!r} is also image {other}")
        pictures[path] = image
    # Path.is_file raises for a name that is too long for the file system.
    missing = [image for path, image in pictures.items() if not os.path.isfile(path)]  # noqa: PTH113
    if missing:
        first, counts = missing[0], f"{len(missing)} of {len(pictures)} pictures are missing"
        raise InputError(f"{file.path}: image {first.id}: {first.file_name!r} is not in {root}; {counts}")
    return pictures


def _check_sizes(file: AnnotationFile, pictures: dict[Path, Image]) -> None:
    """Compare the size in the headers of the pictures, or of a sample, with that in the annotation file."""
    listed = list(pictures.items())
    sample = np.linspace(0, len(listed) - 1, min(len(listed), MOST_PICTURES_OPENED)).round().astype(int)
    for path, image in (listed[position] for position in sample):
        try:
            with Picture.open(path) as picture:
                width, height = picture.size
        except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
            what = f"{file.path}: image {image.id}: {image.file_name!r} cannot be read as a picture"
            raise InputError(what) from error
        if (width, height) != (image.width, image.height):
            said = f"width and height say {image.width} x {image.height}"
            raise InputError(f"{file.path}: image {image.id}: {image.file_name!r} is {width} x {height} pixels; {said}")


def _checked_boxes(file: AnnotationFile, drop: bool) -> tuple[list[dict[str, Any]], int, int]:
    """Clip and drop boxes; returns the annotations to write, how many were dropped and how many clipped."""
    boxes, clipped = _clipped(file)
    empty = (boxes[:, 2:] <= 0).any(axis=1)
    if empty.any() and not drop:
        wrong = file.annotations[empty.argmax()]
        raise InputError(
            f"{file.path}: annotation {wrong.id}: bbox {list(wrong.bbox)} has no area inside its image "
            f"({empty.sum()} such boxes); 'boxes_without_area: drop' in the card leaves them out"
        )
    kept = [
        {
            "id": annotation.id,
            "image_id": annotation.image_id,
            "category_id": annotation.category_id,
            "bbox": box,
            "area": box[2] * box[3] if annotation.area is None else annotation.area,
            "iscrowd": annotation.iscrowd,
        }
        | ({"segmentation": annotation.segmentation} if isinstance(annotation, SegmentedAnnotation) else {})
        for annotation, box, without in zip(file.annotations, boxes.tolist(), empty.tolist(), strict=True)
        if not without
    ]
    if all(annotation["iscrowd"] for annotation in kept):
        raise InputError(f"{file.path}: annotations: not one has area and is no crowd region")
    return kept, int(empty.sum()), int((clipped & ~empty).sum())


def _clipped(file: AnnotationFile) -> tuple[np.ndarray, np.ndarray]:
    """Boxes, float64 [N, 4], within their images, and which were changed for it, bool [N]."""
    size_of = {image.id: (image.width, image.height) for image in file.images}
    boxes = np.array([annotation.bbox for annotation in file.annotations])
    sizes = np.array([size_of[annotation.image_id] for annotation in file.annotations], dtype=np.float64)
    with np.errstate(over="ignore"):  # an endless box is refused below like any that leaves its image
        ends = boxes[:, :2] + boxes[:, 2:]
    beyond = np.maximum(-boxes[:, :2], ends - sizes).max(axis=1)
    beyond[(boxes[:, 2:] <= 0).any(axis=1)] = 0.0  # no area: nothing lies outside
    outside = np.flatnonzero(beyond > BORDER_TOLERANCE + _NOISE)
    if len(outside):
        wrong = file.annotations[outside[0]]
        width, height = size_of[wrong.image_id]
        raise InputError(
            f"{file.path}: annotation {wrong.id}: bbox {list(wrong.bbox)} leaves its {width} x {height} image by "
            f"{beyond[outside[0]]:.6g} pixels; allowed: {BORDER_TOLERANCE:g} ({len(outside)} such boxes)"
        )
    clipped = beyond > _NOISE
    starts = np.maximum(boxes[clipped, :2], 0.0)
    boxes[clipped] = np.hstack([starts, np.round(np.minimum(ends[clipped], sizes[clipped]) - starts, 6)])
    return boxes, clipped


def check_apart(train: CheckedSplit, val: CheckedSplit) -> None:
    """Both splits have the same category ids and no picture in common."""
    check_same_categories(train.file, val.file)
    for path, image in val.pictures.items():
        if path in train.pictures:
            raise InputError(
                f"{val.file.path}: image {image.id}: {image.file_name!r} is also image {train.pictures[path].id} of "
                f"{train.file.path}; train and val must not share pictures"
            )
