"""Ground truth out of COCO annotations, as the evaluation reads it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_json
from cascadebench.datasets.masks import encoded, problem_with
from cascadebench.metrics.coco.json_entries import (
    boxes,
    check_distinct,
    check_objects,
    integers,
    numbers,
    texts,
)

ALL = "all"
"""Stands for the mean over categories, and for every area; no category may have this name."""


@dataclass(frozen=True)
class GroundTruth:
    """Images, categories and boxes."""

    source: str
    """File that they came from, for messages."""
    image_ids: np.ndarray
    """int64 [images]: in rising order."""
    category_ids: np.ndarray
    """int64 [categories]: in rising order."""
    category_names: tuple[str, ...]
    """Name of every category, in the order of their ids."""
    boxes: pd.DataFrame
    """One row per annotation in the file's order, which decides ties: image_id, category_id, iscrowd (int64), x, y, w,
    h (float64, pixels), area (float64, square pixels); and segmentation, run lengths as
    :func:`cascadebench.datasets.masks.encoded` gives them, if they were asked for."""
    image_sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Width and height by image id, in pixels; empty if masks were not asked for."""


def read_ground_truth(ground_truth: Path | dict[str, Any], segmentations: bool = False) -> GroundTruth:
    """Read COCO annotations; what the evaluation does not need (licences, and polygons of boxes) is not looked at.

    An annotation without ``iscrowd`` is no crowd; one without ``area`` has that of its box. Annotation ids must differ,
    and play no other part: 0 is an id like others, whereas pycocotools takes it for no match.

    Parameters
    ----------
    ground_truth : Path or dict
        A COCO JSON file or its content.
    segmentations : bool
        Read the sizes of the images and the mask of every annotation too.

    Raises
    ------
    InputError
        If the file is missing, no JSON, or not in COCO's format.
    """
    source = str(ground_truth) if isinstance(ground_truth, Path) else "ground truth"
    content = read_json(ground_truth) if isinstance(ground_truth, Path) else ground_truth
    if not isinstance(content, dict):
        raise InputError(f"{source}: COCO annotations are an object with images, annotations and categories")
    lists = {}
    for key in ("images", "categories", "annotations"):
        if key not in content:
            raise InputError(f"{source}: the key {key!r} is missing; COCO annotations have it")
        lists[key] = check_objects(content[key], f"{source}: {key}")
    image_ids = integers(lists["images"], "id", f"{source}: images")
    check_distinct(image_ids.tolist(), "id", f"{source}: images")
    names = _categories(lists["categories"], f"{source}: categories")
    found = _boxes(lists["annotations"], f"{source}: annotations")
    for key, known, place in (("image_id", image_ids, "images"), ("category_id", list(names), "categories")):
        unknown = ~found[key].isin(known).to_numpy()
        if unknown.any():
            number = int(unknown.argmax())
            raise InputError(f"{source}: annotations[{number}].{key}: {found[key][number]} is not among the {place}")
    sizes: dict[int, tuple[int, int]] = {}
    if segmentations:
        sides = (integers(lists["images"], key, f"{source}: images").tolist() for key in ("width", "height"))
        sizes = dict(zip(image_ids.tolist(), zip(*sides, strict=True), strict=True))
        found["segmentation"] = _run_lengths(lists["annotations"], sizes, f"{source}: annotations")
    category_ids = sorted(names)
    return GroundTruth(
        source,
        np.sort(image_ids),
        np.array(category_ids, dtype=np.int64),
        tuple(names[category_id] for category_id in category_ids),
        found,
        sizes,
    )


def _run_lengths(entries: list[dict[str, Any]], sizes: dict[int, tuple[int, int]], where: str) -> list[dict[str, Any]]:
    """The mask of every annotation, encoded; raises InputError at the first that is missing or malformed."""
    made = []
    for number, entry in enumerate(entries):
        segmentation, size = entry.get("segmentation"), sizes[entry["image_id"]]
        problem = problem_with(segmentation, *size) if segmentation else "missing"
        if problem:
            raise InputError(f"{where}[{number}].segmentation: {problem}")
        made.append(encoded(segmentation, *size))
    return made


def _categories(entries: list[dict[str, Any]], where: str) -> dict[int, str]:
    """Names by id."""
    ids = integers(entries, "id", where).tolist()
    names = texts(entries, "name", where)
    check_distinct(ids, "id", where)
    check_distinct(names, "name", where)
    if ALL in names:
        raise InputError(f"{where}[{names.index(ALL)}].name: {ALL!r} stands for the mean over categories; rename it")
    return dict(zip(ids, names, strict=True))


def _boxes(entries: list[dict[str, Any]], where: str) -> pd.DataFrame:
    """Annotations as the rows of :attr:`GroundTruth.boxes`."""
    with_id = [entry for entry in entries if "id" in entry]
    repeated = [value for value, count in Counter(str(entry["id"]) for entry in with_id).items() if count > 1]
    if repeated:
        raise InputError(f"{where}: the id {repeated[0]} is given twice")
    rows = pd.DataFrame(boxes(entries, where), columns=["x", "y", "w", "h"])
    rows["image_id"] = integers(entries, "image_id", where)
    rows["category_id"] = integers(entries, "category_id", where)
    box_areas = (rows["w"] * rows["h"]).tolist()
    completed = [{"iscrowd": 0, "area": area} | entry for entry, area in zip(entries, box_areas, strict=True)]
    rows["iscrowd"] = integers(completed, "iscrowd", where)
    rows["area"] = numbers(completed, "area", where)
    for key, bad, allowed in (
        ("iscrowd", ~rows["iscrowd"].isin([0, 1]), "0 or 1"),
        ("area", rows["area"] < 0, "at least 0"),
    ):
        if bad.any():
            number = int(bad.argmax())
            raise InputError(f"{where}[{number}].{key}: {allowed} is expected, found {rows[key].iloc[number]}")
    return rows
