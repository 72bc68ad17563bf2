"""What a dataset is by its content, whatever it is called and wherever it lies."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any


def categories_digest(names: Iterable[str]) -> str:
    """SHA-256 of the categories' names in the order of their ids, 64 hex digits."""
    return _digest(names)


def split_content(
    image_ids: Iterable[int], annotations: Iterable[Mapping[str, Any]], category_names: Mapping[int, str]
) -> dict[str, str]:
    """Digests of a split's images and ground truth.

    Neither order nor ids of the annotations matter, nor how a category is numbered. Boxes and areas count in hundredths
    of a pixel: files that were written anew differ in the last digits of a float.

    Parameters
    ----------
    image_ids : iterable of int
        As the annotation file numbers the images.
    annotations : iterable of mapping
        As prepared, with ``image_id``, ``category_id``, ``bbox``, ``area`` and ``iscrowd``; masks do not count.
    category_names : mapping of int to str
        Name by category id.

    Returns
    -------
    dict of str to str
        ``image_ids_sha256`` and ``annotations_sha256``, 64 hex digits each.

    Example
    -------
    >>> box = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 8, 8], "area": 64, "iscrowd": 0}
    >>> split_content([7], [box], {1: "dog"}) == split_content([7], [box | {"category_id": 3}], {3: "dog"})
    True
    """
    boxes = (
        f"{one['image_id']} {category_names[one['category_id']]} {one['iscrowd']} "
        + " ".join(str(round(100 * value)) for value in (*one["bbox"], one["area"]))
        for one in annotations
    )
    ids = map(str, sorted(image_ids))
    return {"image_ids_sha256": _digest(ids), "annotations_sha256": _digest(sorted(boxes))}


def _digest(lines: Iterable[str]) -> str:
    """SHA-256 of lines, each with its end."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
