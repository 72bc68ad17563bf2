"""Checking a dataset against its card and writing it as every adapter and the evaluation read it.

Boxes are kept, and segmentations if the card says that there are any; keypoints and captions are left behind.
"""

import filecmp
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from PIL import Image as Picture

from cascadebench.core.configuration import validated
from cascadebench.core.errors import InputError
from cascadebench.core.files import inside, sha256_of, write_json
from cascadebench.core.lease import one_at_a_time
from cascadebench.datasets.card import SPLITS, AnnotationsAlone, DatasetCard, Folder, Split, Synthetic, Voc
from cascadebench.datasets.coco import (
    AnnotationFile,
    Image,
    SegmentedAnnotation,
    check_same_categories,
    check_segmentations,
    read_annotations,
)
from cascadebench.datasets.synthetic import draw
from cascadebench.datasets.voc import read_voc

BORDER_TOLERANCE = 1.0
"""Pixels by which a box may leave its image, as rounding in real annotation files does; such boxes are clipped."""
MOST_PICTURES_OPENED = 2000
"""Pictures per split whose size is compared with the annotation file; of more, an evenly spread sample is opened."""

_NOISE = 1e-6  # pixels: the error of x + width in floating point, which is no crossing of the border


@dataclass(frozen=True)
class _CheckedSplit:
    """One split that passed every check, and its entry in the lock."""

    file: AnnotationFile
    pictures: dict[Path, Image]
    annotations: list[dict[str, Any]]
    lock: dict[str, Any]


def prepare(card: DatasetCard, folder: Path) -> None:
    """Check both splits and write ``train.json``, ``val.json`` and ``lock.json``; a synthetic dataset is drawn first.

    The JSON files keep ``id, file_name, width, height`` of images and ``id, image_id, category_id, bbox, area,
    iscrowd`` of annotations, each sorted by id, and ``segmentation`` as the source has it if the card says
    ``segmentations``. ``area`` is width times height where the source has none. Boxes that leave their image by at most
    :data:`BORDER_TOLERANCE` pixel are clipped to it; boxes without area are refused or dropped as the card says; both
    are counted in the lock. Picture headers are opened, for up to
    :data:`MOST_PICTURES_OPENED` pictures per split, to compare their size as stored (EXIF rotation not applied).

    Parameters
    ----------
    card : DatasetCard
        What is expected, and where it lies.
    folder : Path
        ``results/datasets/<name>``; changes only after every check has passed, ``lock.json`` last. The same source and
        card give the same bytes.

    Raises
    ------
    InputError
        With the first thing that is wrong: see :func:`cascadebench.datasets.coco.read_annotations`, and counts, a
        checksum or categories that are not the card's, a box outside its image or without area, a segmentation
        that is missing though the card says ``segmentations``, malformed or of another size than its image, a picture
        that is missing, unreadable, listed twice, in both splits or of another size, a path that leaves its folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        work = Path(name)
        data = card.data
        if isinstance(data, Synthetic):
            draw(card, work / "drawn")
            train, val = (Split(annotations=f"{split}.json", images=f"images/{split}") for split in SPLITS)
            root = (str((work / "drawn").resolve()),)
            data = Folder(root=root, train=train, val=val, segmentations=True)
        if isinstance(data, AnnotationsAlone):
            checked = {"val": _checked_annotations(card, data)}
        else:
            checked = {split: _checked_split(card, data, split) for split in card.splits}
            _check_apart(checked["train"], checked["val"])
        for split, content in checked.items():
            _write_split(work / f"{split}.json", content)
            content.lock["prepared_sha256"] = sha256_of(work / f"{split}.json")
            if isinstance(card.data, Synthetic):
                content.lock["image_root"] = f"images/{split}"  # moves with the folder
        categories = [category.model_dump() for category in checked["val"].file.categories]
        splits = {split: content.lock for split, content in checked.items()}
        lock = {"dataset": card.name, "digest": card.digest(), "categories": categories, "splits": splits}
        write_json(work / "lock.json", lock)
        _publish(work, folder, list(checked))


def _publish(work: Path, folder: Path, splits: list[str]) -> None:
    """Move what is complete to its place; until the lock is there again, the folder is not a prepared dataset."""
    folder.mkdir(exist_ok=True)
    with one_at_a_time(folder):
        # Where another study has prepared the same, its trainings may be reading it now.
        if not _is_published(work, folder, splits):
            _replace(work, folder, splits)


def _is_published(work: Path, folder: Path, splits: list[str]) -> bool:
    """Whether all of what was prepared is there already, byte for byte."""
    pairs = [(work / name, folder / name) for name in ("lock.json", *(f"{split}.json" for split in splits))]
    drawn = work / "drawn" / "images"
    pairs += [(path, folder / "images" / path.relative_to(drawn)) for path in sorted(drawn.rglob("*.png"))]
    return all(there.is_file() and filecmp.cmp(made, there, shallow=False) for made, there in pairs)


def _replace(work: Path, folder: Path, splits: list[str]) -> None:
    (folder / "lock.json").unlink(missing_ok=True)
    if (work / "drawn").exists():
        if (folder / "images").exists():
            (folder / "images").rename(work / "replaced")
        (work / "drawn" / "images").rename(folder / "images")
    for name in (*(f"{split}.json" for split in splits), "lock.json"):
        (work / name).replace(folder / name)


def _write_split(path: Path, content: _CheckedSplit) -> None:
    """Write COCO JSON with one record a line: a million of them stay quick to write and to compare."""
    parts = {
        "images": [image.model_dump() for image in content.file.images],
        "annotations": content.annotations,
        "categories": [category.model_dump() for category in content.file.categories],
    }
    with path.open("w", encoding="utf-8") as stream:
        for start, (key, records) in zip("{,,", parts.items(), strict=True):
            lines = ",\n".join(json.dumps(record, allow_nan=False, ensure_ascii=False) for record in records)
            stream.write(f'{start}"{key}": [\n{lines}\n]')
        stream.write("}\n")


def _checked_split(card: DatasetCard, data: Folder | Voc, split: str) -> _CheckedSplit:
    """Read one split and run every check on it."""
    asked_by = f"dataset {card.name!r}: data.{split}"
    root, declared = data.find(card.name), getattr(data, split)
    if isinstance(data, Voc):
        file, image_root = read_voc(root, declared, card.categories, BORDER_TOLERANCE, asked_by), root
    else:
        file, image_root = _read_coco(root, declared, data.segmentations, asked_by)
    _check_categories(file, card)
    pictures = _found_pictures(file, image_root)
    _check_sizes(file, pictures)
    drop = isinstance(data, Folder) and data.boxes_without_area == "drop"
    return _with_checked_boxes(file, pictures, drop, {"image_root": str(image_root)})


def _checked_annotations(card: DatasetCard, data: AnnotationsAlone) -> _CheckedSplit:
    """Read annotations that have no pictures and run every check on them that needs none."""
    asked_by = f"dataset {card.name!r}: data"
    file = read_annotations(inside(data.find(card.name), data.val, f"{asked_by}.val"))
    if data.sha256 not in (None, file.sha256):
        raise InputError(f"{file.path}: its sha256 is {file.sha256}; {asked_by}.sha256 expects {data.sha256}")
    _check_categories(file, card)
    return _with_checked_boxes(file, {}, False, {})


def _with_checked_boxes(
    file: AnnotationFile, pictures: dict[Path, Image], drop: bool, about: dict[str, Any]
) -> _CheckedSplit:
    """Check the boxes; `about` goes into the lock before the counts."""
    annotations, dropped, clipped = _checked_boxes(file, drop)
    lock = about | {
        "images": len(file.images),
        "annotations": len(annotations),
        "crowd": sum(annotation["iscrowd"] for annotation in annotations),
        "dropped": dropped,
        "clipped": clipped,
        "source_sha256": file.sha256,
    }
    return _CheckedSplit(file, pictures, annotations, lock)


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


def _described(file: AnnotationFile) -> dict[str, Any]:
    """What a card may declare about an annotation file."""
    return {"image_count": len(file.images), "annotation_count": len(file.annotations), "sha256": file.sha256}


def _check_declared(file: AnnotationFile, declared: Split, asked_by: str) -> None:
    """Compare checksum and counts with those of the card, where it has them."""
    for key, found in _described(file).items():
        expected = getattr(declared, key)
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


def _check_apart(train: _CheckedSplit, val: _CheckedSplit) -> None:
    """Both splits have the same category ids and no picture in common."""
    check_same_categories(train.file, val.file)
    for path, image in val.pictures.items():
        if path in train.pictures:
            raise InputError(
                f"{val.file.path}: image {image.id}: {image.file_name!r} is also image {train.pictures[path].id} of "
                f"{train.file.path}; train and val must not share pictures"
            )


def describe_folder(root: Path, name: str, train: tuple[str, str], val: tuple[str, str]) -> str:
    """Write the card of a COCO-format folder.

    Parameters
    ----------
    root : Path
        Folder of the dataset; the card names it in full, after an environment variable that may replace it.
    name : str
        Of the dataset; the card belongs in ``config/datasets/<name>.yaml``.
    train, val : tuple of two str
        Annotation file and image folder, relative to `root`.

    Returns
    -------
    str
        YAML of a :class:`~cascadebench.datasets.card.DatasetCard` with categories, counts and checksums filled in, and
        ``segmentations`` if every annotation has one.

    Raises
    ------
    InputError
        As :func:`cascadebench.datasets.coco.read_annotations`, and for paths that leave `root`, no image folder or
        categories that differ between the splits. Boxes, segmentations and pictures are left to :func:`prepare`.
    """
    variable = re.sub(r"\W", "_", name).upper() + "_ROOT"
    files, data = {}, {"root": [f"${{{variable}}}", str(root.resolve())]}
    for split, (annotations, images) in zip(SPLITS, (train, val), strict=True):
        if not inside(root, images, f"{split} images").is_dir():
            raise InputError(f"{split} images: {images!r} is not a folder in {root}")
        file = files[split] = read_annotations(inside(root, annotations, f"{split} annotations"), segmentations=True)
        data[split] = {"annotations": annotations, "images": images, **_described(file)}
    check_same_categories(files["train"], files["val"])
    if all(annotation.segmentation for file in files.values() for annotation in file.annotations):
        data["segmentations"] = True
    names = [category.name for category in files["train"].categories]
    card = {"name": name, "title": name, "source": "", "categories": names}
    validated(DatasetCard, card | {"data": data}, f"card of {name!r}")
    layout = {"sort_keys": False, "allow_unicode": True, "width": 110}
    return yaml.safe_dump(card, default_flow_style=None, **layout) + yaml.safe_dump({"data": data}, **layout)
