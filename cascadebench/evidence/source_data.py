"""Whether prepared data is the dataset that a source measured on: by its content, never by its name."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from cascadebench.core.configuration import Configuration, read_model
from cascadebench.datasets.card import SPLITS
from cascadebench.datasets.content import categories_digest

PATH = Path(__file__).parent / "datasets.yaml"
WORDS = {
    "images": "images",
    "annotations": "annotations",
    "image_ids_sha256": "the image ids (SHA-256)",
    "annotations_sha256": "the ground truth (SHA-256)",
}
"""What is compared of a split, and how a sentence calls it."""


class SplitContent(Configuration):
    """One split of a source's dataset; null: not known."""

    images: Annotated[int, Ge(1)]
    annotations: Annotated[int, Ge(1)] | None = None
    """Those in the source's file, dropped ones and crowd regions included."""
    image_ids_sha256: str | None = None
    annotations_sha256: str | None = None


class SourceDataset(Configuration):
    """A dataset that sources measured on."""

    name: str
    """Name of a card under ``config/datasets/``, which claims use for it."""
    categories_sha256: str
    train: SplitContent
    val: SplitContent


class SourceDatasetsFile(Configuration):
    """``datasets.yaml``."""

    title: str
    datasets: tuple[SourceDataset, ...]


@cache
def source_datasets() -> dict[str, SourceDataset]:
    """The datasets of the sources, by name."""
    return {one.name: one for one in read_model(SourceDatasetsFile, PATH).datasets}


def data_differences(here: str, lock: Mapping[str, Any] | None, name: str) -> list[str]:
    """Say in what data is not the dataset that a source measured on; nothing if it is.

    Parameters
    ----------
    here : str
        Name of the data.
    lock : mapping or None
        Its ``lock.json``; None: it is not prepared, and names are compared.
    name : str
        Of the source's dataset.
    """
    there = source_datasets().get(name)
    if lock is None or there is None:
        return [] if here == name else [f"data: {here} here, {name} in the source"]
    names = [category["name"] for category in lock.get("categories", [])]
    if categories_digest(names) != there.categories_sha256:
        same = f"data: {here} here has other categories than {name} in the source"
        return [same if here == name else f"data: {here} here, {name} in the source"]
    return list(_split_differences(lock, there))


def not_compared(lock: Mapping[str, Any] | None, name: str) -> str | None:
    """Say what is not known of a source's dataset, so that no difference in it would be found; None if nothing."""
    there = source_datasets().get(name)
    if lock is None or there is None:
        return f"data: taken for {name} by its name alone"
    unknown = [
        f"{WORDS[key]} of {split}" for split in SPLITS for key in WORDS if getattr(getattr(there, split), key) is None
    ]
    return f"data: not known of {name}, and so not compared: {', '.join(unknown)}" if unknown else None


def _split_differences(lock: Mapping[str, Any], there: SourceDataset) -> Iterator[str]:
    for split in SPLITS:
        found = dict(lock.get("splits", {}).get(split, {}))
        if "annotations" in found:
            found["annotations"] += found.get("dropped", 0)
        for key, words in WORDS.items():
            expected, value = getattr(getattr(there, split), key), found.get(key)
            if expected is None or value == expected:
                continue
            said = "not recorded" if value is None else value if isinstance(value, str) else f"{value:,}"
            asked = expected if isinstance(expected, str) else f"{expected:,}"
            yield f"data: {words} of {split}: {said[:12]} here, {asked[:12]} in {there.name}"
