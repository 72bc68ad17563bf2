"""PASCAL VOC: one XML file an image, read as the records of a COCO annotation file.

VOC gives a box by its first and its last pixel, both counted from 1 and both part of the box. In pixels from 0 that is
``x = xmin - 1``, ``y = ymin - 1``, width ``xmax - xmin + 1`` and height ``ymax - ymin + 1``.

Objects that are marked as difficult are neither trained on nor counted: they become crowd regions (``iscrowd`` 1). So
a detection that no counted object takes is left out of the count where at least the IoU threshold of *its own* area
lies in a difficult object of its class, any number of times. VOC's rule measures the overlap by IoU instead, so that a
small detection inside a large difficult object is wrong by VOC's rule and left out here.

Sources: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010, Section 4.2 (difficult objects); the
development kits of VOC2007 and VOC2012 (pixels).
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cascadebench.core.errors import InputError
from cascadebench.core.files import inside, read_text
from cascadebench.datasets.card import VocImageSet
from cascadebench.datasets.coco import Annotation, AnnotationFile, Category, Image, first_twice


def read_voc(
    root: Path, image_sets: Sequence[VocImageSet], categories: Sequence[str], tolerance: float, asked_by: str
) -> AnnotationFile:
    """Read the images of some lists and their objects.

    Parameters
    ----------
    root : Path
        Folder that everything is relative to.
    image_sets : sequence of VocImageSet
        Lists of images, read one after the other.
    categories : sequence of str
        Every name that an object may have; ids are given from 1 in this order.
    tolerance : float
        Pixels by which a box may leave its image.
    asked_by : str
        Place of `image_sets` in the dataset card, for messages.

    Returns
    -------
    AnnotationFile
        Its `path` is `root` and its `sha256` that of all lists and XML files in the order in which they were read.
        Images and objects are numbered from 1 in that order; file names are relative to `root`; areas are left to the
        boxes.

    Raises
    ------
    InputError
        If a list or an XML file is missing or malformed, a list names an image twice or has another length than the
        card says, an object has an unknown name, a box leaves its image or ends before it starts, or there is no
        object at all. Names the file, the object and the key.
    """
    checksum = hashlib.sha256()
    images: list[Image] = []
    annotations: list[Annotation] = []
    for number, image_set in enumerate(image_sets):
        for name in _listed(root, image_set, checksum, f"{asked_by}[{number}]"):
            path = inside(root, f"{image_set.folder}/Annotations/{name}.xml", f"{root / image_set.list_file}: {name}")
            width, height, objects = _read_image(path, categories, tolerance, checksum)
            picture = f"{image_set.folder}/JPEGImages/{name}.jpg"
            images.append(Image(id=len(images) + 1, file_name=picture, width=width, height=height))
            for one in objects:
                annotations.append(Annotation(id=len(annotations) + 1, image_id=images[-1].id, **one))
    if not annotations:
        raise InputError(f"{asked_by}: not one object in {len(images)} images under {root}")
    named = [Category(id=label + 1, name=name) for label, name in enumerate(categories)]
    return AnnotationFile(root, checksum.hexdigest(), images, annotations, named)


def _listed(root: Path, image_set: VocImageSet, checksum: "hashlib._Hash", asked_by: str) -> list[str]:
    """Names of the images of a list."""
    path = inside(root, image_set.list_file, asked_by)
    lines = [line.split() for line in read_text(path, checksum).splitlines() if line.strip()]
    wrong = next((words for words in lines if len(words) != 1), None)
    if wrong:
        raise InputError(f"{path}: one name on a line is expected; found {' '.join(wrong)[:60]!r}")
    names = [words[0] for words in lines]
    twice = first_twice(names)
    if twice is not None:
        raise InputError(f"{path}: {twice!r} is listed twice; names must differ")
    if image_set.image_count not in (None, len(names)):
        raise InputError(
            f"{path}: its image_count is {len(names)}; {asked_by}.image_count expects {image_set.image_count}"
        )
    return names


def _read_image(
    path: Path, categories: Sequence[str], tolerance: float, checksum: "hashlib._Hash"
) -> tuple[int, int, list[dict[str, Any]]]:
    """Width, height and objects of one XML file, as annotations without ids."""
    tree = _parsed(path, checksum)
    size = _child(tree, "size", f"{path}: ")
    width, height = (_side(size, key, f"{path}: size: ") for key in ("width", "height"))
    objects = []
    for number, element in enumerate(tree.findall("object"), start=1):
        place = f"{path}: object {number}: "
        name = _word(element, "name", place)
        if name not in categories:
            raise InputError(f"{place}name: {name!r} is unknown; allowed: {', '.join(categories)}")
        difficult = _word(element, "difficult", place) if element.find("difficult") is not None else "0"
        if difficult not in ("0", "1"):
            raise InputError(f"{place}difficult: {difficult!r}; allowed: 0, 1")
        # Parts of a body have a box of their own, further down.
        box = _box(_child(element, "bndbox", place), width, height, tolerance, f"{place}bndbox: ")
        objects.append({"category_id": categories.index(name) + 1, "bbox": box, "iscrowd": int(difficult)})
    return width, height, objects


def _box(
    element: ElementTree.Element, width: int, height: int, tolerance: float, place: str
) -> tuple[float, float, float, float]:
    """x, y, width, height in pixels from 0 of a box whose first and last pixels are counted from 1."""
    corners = {key: _number(element, key, place) for key in ("xmin", "ymin", "xmax", "ymax")}
    for first, last, side, name in (("xmin", "xmax", width, "width"), ("ymin", "ymax", height, "height")):
        for key, least, most in ((first, 1 - tolerance, side), (last, 1, side + tolerance)):
            if not least <= corners[key] <= most:
                raise InputError(
                    f"{place}{key}: {corners[key]:.12g} is outside the image of {name} {side}; allowed: {least:g} to "
                    f"{most:g}"
                )
        if corners[last] < corners[first]:
            raise InputError(
                f"{place}{last}: {corners[last]:.12g} is less than {first} {corners[first]:.12g}; a box is at least "
                "one pixel"
            )
    x, y = corners["xmin"] - 1, corners["ymin"] - 1
    return x, y, corners["xmax"] - x, corners["ymax"] - y


def _parsed(path: Path, checksum: "hashlib._Hash") -> ElementTree.Element:
    """Parse an XML file; one that declares a document type is refused, because entities can be made to explode."""
    text = read_text(path, checksum)
    for declaration in ("<!DOCTYPE", "<!ENTITY"):
        if declaration in text:
            raise InputError(
                f"{path}: {declaration} is not allowed; VOC's files declare no document type and no entity"
            )
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: not valid XML: {error}") from error


def _child(element: ElementTree.Element, key: str, place: str) -> ElementTree.Element:
    found = element.find(key)
    if found is None:
        raise InputError(f"{place}{key}: missing")
    return found


def _word(element: ElementTree.Element, key: str, place: str) -> str:
    return (_child(element, key, place).text or "").strip()


def _number(element: ElementTree.Element, key: str, place: str) -> float:
    text = _word(element, key, place)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{place}{key}: a number is expected; found {text[:60]!r}")
    return value


def _side(element: ElementTree.Element, key: str, place: str) -> int:
    value = _number(element, key, place)
    if value < 1 or value != int(value):
        raise InputError(f"{place}{key}: a whole number of pixels, 1 or more, is expected; found {value:.12g}")
    return int(value)
