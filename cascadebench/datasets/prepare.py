"""Checking a dataset against its card and writing it as every adapter and the evaluation read it.

Boxes are kept, and segmentations if the card says that there are any; keypoints and captions are left behind.
"""

import filecmp
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from cascadebench.core.files import sha256_of, write_json
from cascadebench.core.lease import one_at_a_time
from cascadebench.datasets.card import SPLITS, DatasetCard, Folder, Split, Synthetic
from cascadebench.datasets.checks import CheckedSplit, check_apart, checked_split
from cascadebench.datasets.pictures import Kind, record_pictures, write_pictures
from cascadebench.datasets.synthetic import draw
from cascadebench.results.layout import DatasetFolder


def prepare(card: DatasetCard, folder: Path, sizes_only: bool = False) -> None:
    """Check both splits and write the prepared dataset, ``lock.json`` last; a synthetic dataset is drawn first.

    The JSON files keep ``id, file_name, width, height`` of images and ``id, image_id, category_id, bbox, area,
    iscrowd`` of annotations, each sorted by id, and ``segmentation`` as the source has it if the card says
    ``segmentations``. ``area`` is width times height where the source has none. Boxes that leave their image a little
    (``BORDER_TOLERANCE`` of :mod:`cascadebench.datasets.checks`) are clipped to it; boxes without area are refused or
    dropped as the card says; both are counted in the lock. Picture headers are opened, for up to
    ``MOST_PICTURES_OPENED`` pictures per split, to compare their size as stored (EXIF rotation not applied). Then all
    are read for their checksums (:func:`cascadebench.datasets.pictures.record_pictures`); of those that were not
    touched since the folder was prepared last they are remembered.

    Parameters
    ----------
    card : DatasetCard
        What is expected, and where it lies.
    folder : Path
        ``results/datasets/<name>``; changes only after every check has passed. The same source and card give the same
        bytes.
    sizes_only : bool
        Record the sizes of the pictures' files alone, as ``checksums: sizes`` in the card does.

    Raises
    ------
    InputError
        With the first thing that is wrong: see :func:`cascadebench.datasets.coco.read_annotations`, and counts, a
        checksum or categories that are not the card's, a box outside its image or without area, a segmentation
        that is missing though the card says ``segmentations``, malformed or of another size than its image, a picture
        that is missing, unreadable, listed twice, in both splits or of another size, a path that leaves its folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    kind: Kind = "sizes" if sizes_only else card.checksums
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        work, data = Path(name), card.data
        made = DatasetFolder(work)
        if isinstance(data, Synthetic):
            draw(card, work)
            train, val = (Split(annotations=made.split(split).name, images=f"images/{split}") for split in SPLITS)
            data = Folder(root=(str(work.resolve()),), train=train, val=val, segmentations=True)
        checked = {split: checked_split(card, data, split) for split in card.splits}
        if "train" in checked:
            check_apart(checked["train"], checked["val"])
        for split, content in checked.items():
            _write_split(made.split(split), content)
            content.lock["prepared_sha256"] = sha256_of(made.split(split))
            if content.pictures:
                remembered = None if isinstance(card.data, Synthetic) else DatasetFolder(folder).pictures_read
                pictures = record_pictures(list(content.pictures), kind, f"{card.name} {split}", remembered)
                write_pictures(made.pictures(split), (image.id for image in content.file.images), pictures)
                content.lock.update(pictures=kind, pictures_sha256=sha256_of(made.pictures(split)))
            if isinstance(card.data, Synthetic):
                content.lock["image_root"] = f"images/{split}"  # moves with the folder
        categories = [category.model_dump() for category in checked["val"].file.categories]
        splits = {split: content.lock for split, content in checked.items()}
        lock = {"dataset": card.name, "digest": card.digest(), "categories": categories, "splits": splits}
        write_json(made.lock, lock)
        _publish(work, folder)
    for split, content in checked.items():
        if content.pictures:
            recorded = "SHA-256 of each" if kind == "sha256" else "sizes of their files alone"
            print(f"{split}: {len(content.pictures):,} pictures, {recorded}")


def _publish(work: Path, folder: Path) -> None:
    """Move what is complete to its place; until the lock is there again, the folder is not a prepared dataset."""
    folder.mkdir(exist_ok=True)
    made, there = DatasetFolder(work), DatasetFolder(folder)
    with one_at_a_time(folder):
        files = [str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()]
        if filecmp.cmpfiles(work, folder, files, shallow=False)[0] == files:
            return  # another study has prepared the same, and its trainings may be reading it now
        there.lock.unlink(missing_ok=True)
        parts = sorted(work.iterdir(), key=lambda part: part == made.lock)
        if made.images.exists() and there.images.exists():
            there.images.rename(work / "replaced")
        for part in parts:
            part.rename(folder / part.name)


def _write_split(path: Path, content: CheckedSplit) -> None:
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
