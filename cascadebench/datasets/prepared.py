"""The prepared dataset, as every adapter and the evaluation read it.

``results/datasets/<name>/`` holds ``train.json`` and ``val.json`` (checked COCO JSON, images and annotations sorted by
id), what is known of the bytes of their pictures (:mod:`cascadebench.datasets.pictures`) and ``lock.json`` (where the
pictures are, counts, checksums, category ids).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascadebench.core.errors import Fault, InputError
from cascadebench.core.files import inside, read_json, sha256_of
from cascadebench.datasets.masks import Segmentation
from cascadebench.datasets.pictures import PictureFile, read_pictures
from cascadebench.results.layout import DatasetFolder


@dataclass(frozen=True)
class ImageRecord:
    """One image with its ground truth."""

    id: int
    """Image id of the annotation file."""
    path: Path
    width: int
    height: int
    """In pixels, as the width."""
    boxes: np.ndarray
    """float32 [N, 4]: ground truth as x1, y1, x2, y2 in pixels, crowd regions left out."""
    labels: np.ndarray
    """int64 [N]: position of the category in the card's list, from 0."""
    segmentations: tuple[Segmentation, ...] | None = None
    """For every box its mask as :mod:`cascadebench.datasets.masks` describes it; None if masks were not asked for."""
    file: PictureFile | None = None
    """What was recorded of the picture's file; None: nothing, so that nothing is compared."""

    def picture_bytes(self) -> bytes:
        """Read the picture's file; raises Fault if it is not the one that was there when the dataset was prepared."""
        content = self.path.read_bytes()
        if self.file is not None:
            self.file.check(self.path, content)
        return content


@dataclass(frozen=True)
class PreparedSplit:
    """One part of a prepared dataset."""

    records: tuple[ImageRecord, ...]
    """Sorted by image id."""
    category_ids: tuple[int, ...]
    """Category id of the annotation files for every label."""


def load_split(folder: Path, split: str, segmentations: bool = False) -> PreparedSplit:
    """Read ``folder/<split>.json`` and the place of its pictures from ``folder/lock.json``.

    Crowd annotations (``iscrowd`` 1) take no part in training; the evaluation reads them from the JSON itself.

    Parameters
    ----------
    segmentations : bool
        Read masks too; without them they are dropped while the file is read, and take no memory.

    Raises
    ------
    InputError
        If a file is missing, malformed or changed since it was prepared, or masks are asked for and an object has none,
        or the dataset was prepared by a version that recorded nothing of its pictures.
    """
    lock = check_unchanged(folder, split)
    if "pictures_sha256" not in lock["splits"][split]:
        raise InputError(
            f"{DatasetFolder(folder).lock}: prepared by an earlier version, which recorded nothing of the pictures; "
            f"`cascadebench prepare {lock.get('dataset', 'NAME')} --out {folder}` does it again"
        )
    pictures = read_pictures(DatasetFolder(folder).pictures(split), lock["splits"][split]["pictures_sha256"])
    file = DatasetFolder(folder).split(split)
    content = read_json(file, each=_compact if segmentations else _without_segmentation)
    root = folder / lock["splits"][split]["image_root"]
    category_ids = tuple(category["id"] for category in lock["categories"])
    label_of = {category_id: label for label, category_id in enumerate(category_ids)}
    found: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            found[annotation["image_id"]].append(annotation)
    records = []
    for image in content["images"]:
        annotations = found[image["id"]]
        boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([label_of[a["category_id"]] for a in annotations], dtype=np.int64)
        path = inside(root, image["file_name"], f"{file}: image {image['id']}: file_name")
        masks = tuple(_segmentation(a, file) for a in annotations) if segmentations else None
        records.append(
            ImageRecord(
                *(image["id"], path, image["width"], image["height"]),
                *(boxes.astype(np.float32), labels, masks, pictures[image["id"]]),
            )
        )
    return PreparedSplit(tuple(records), category_ids)


def check_unchanged(folder: Path, split: str) -> dict[str, Any]:
    """Compare ``folder/<split>.json`` with its checksum in ``lock.json``, which is returned.

    Raises
    ------
    Fault
        If it was changed since it was prepared.
    InputError
        If a file is missing.
    """
    lock, path = read_json(DatasetFolder(folder).lock), DatasetFolder(folder).split(split)
    if not path.exists():
        raise Fault(f"{path}: no such file; it was there when the dataset was prepared")
    if sha256_of(path) != lock["splits"][split]["prepared_sha256"]:
        raise Fault(
            f"{path}: it was changed since the dataset was prepared: its checksum is not that of lock.json; delete "
            f"{folder} to prepare it again"
        )
    return lock


def _without_segmentation(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Polygons as arrays, a quarter of the lists' size."""
    if isinstance(entry.get("segmentation"), list):
        entry["segmentation"] = [np.array(polygon, dtype=np.float64) for polygon in entry["segmentation"]]
    return entry


def _segmentation(annotation: dict[str, Any], path: Path) -> Segmentation:
    if "segmentation" not in annotation:
        raise InputError(f"{path}: annotation {annotation['id']}: segmentation: missing; masks need one for every box")
    return annotation["segmentation"]


def trainable(split: PreparedSplit) -> tuple[ImageRecord, ...]:
    """Records with at least one ground-truth box; raises InputError if there are none."""
    records = tuple(record for record in split.records if len(record.boxes))
    if not records:
        raise InputError("training split: no image has a ground-truth box")
    return records
