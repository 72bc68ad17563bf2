"""Writing the card of a dataset from its files."""

import re
from pathlib import Path

import yaml

from cascadebench.core.configuration import validated
from cascadebench.core.errors import InputError
from cascadebench.core.files import inside
from cascadebench.datasets.card import SPLITS, DatasetCard
from cascadebench.datasets.checks import declared_of
from cascadebench.datasets.coco import check_same_categories, read_annotations


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
        categories that differ between the splits. Boxes, segmentations and pictures are checked when the dataset is
        prepared.
    """
    variable = re.sub(r"\W", "_", name).upper() + "_ROOT"
    files, data = {}, {"root": [f"${{{variable}}}", str(root.resolve())]}
    for split, (annotations, images) in zip(SPLITS, (train, val), strict=True):
        if not inside(root, images, f"{split} images").is_dir():
            raise InputError(f"{split} images: {images!r} is not a folder in {root}")
        file = files[split] = read_annotations(inside(root, annotations, f"{split} annotations"), segmentations=True)
        data[split] = {"annotations": annotations, "images": images, **declared_of(file)}
    check_same_categories(files["train"], files["val"])
    if all(annotation.segmentation for file in files.values() for annotation in file.annotations):
        data["segmentations"] = True
    names = [category.name for category in files["train"].categories]
    card = {"name": name, "title": name, "source": "", "categories": names}
    validated(DatasetCard, card | {"data": data}, f"card of {name!r}")
    layout = {"sort_keys": False, "allow_unicode": True, "width": 110}
    return yaml.safe_dump(card, default_flow_style=None, **layout) + yaml.safe_dump({"data": data}, **layout)
