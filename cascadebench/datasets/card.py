"""Dataset cards: where a dataset is and what it must contain."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, MinLen
from pydantic import Discriminator, Tag, model_validator

from cascadebench.core.configuration import CONFIG, PROJECT, Configuration, expand_environment, read_named
from cascadebench.core.errors import InputError
from cascadebench.core.files import canonical_json

SPLITS = ("train", "val")


class Split(Configuration):
    """One part of a dataset on disk."""

    annotations: str
    """COCO JSON file, relative to the root."""
    images: str
    """Folder that `file_name` is relative to, relative to the root."""
    image_count: Annotated[int, Ge(1)] | None = None
    """Expected number of images; null: not checked."""
    annotation_count: Annotated[int, Ge(1)] | None = None
    """Expected number of annotations; null: not checked."""
    sha256: str | None = None
    """Expected SHA-256 of the annotation file; null: not checked."""


class OnDisk(Configuration):
    """What every dataset that lies on disk has."""

    root: Annotated[tuple[str, ...], MinLen(1)]
    """Places to look, the first that exists is taken; ``${NAME}`` stands for an environment variable; relative paths
    start at the project."""

    def find(self, card: str) -> Path:
        """Return the first root that exists; raises InputError listing what was tried."""
        tried = []
        for text in self.root:
            expanded = expand_environment(text)
            tried.append(text if expanded else f"{text} (not set)")
            if expanded and (PROJECT / expanded).is_dir():
                return (PROJECT / expanded).resolve()
        raise InputError(f"dataset {card!r}: no folder at any root of its card; tried: {', '.join(tried)}")


class WithPictures(OnDisk):
    """What every dataset that lies on disk with its pictures has."""

    checksums: Literal["sha256", "sizes"] = "sha256"
    """What is recorded of every picture and compared when it is read: the SHA-256 of its file, or its size alone, which
    takes no reading and misses a replacement of equal size. No part of a run's identity."""


class Folder(WithPictures):
    """A folder with COCO annotation files."""

    kind: Literal["folder"] = "folder"
    train: Split
    val: Split
    boxes_without_area: Literal["refuse", "drop"] = "refuse"
    """What to do with annotations of no width or height; dropped ones are counted in ``lock.json``."""
    segmentations: bool = False
    """Whether the annotations, all of them, have segmentations that are kept: variants with masks need them."""

    def annotation_files(self) -> list[str]:
        """Annotation files, relative to the root."""
        return [split.annotations for split in (self.train, self.val)]


class AnnotationsAlone(OnDisk):
    """COCO annotations without pictures: enough to evaluate imported detections, not to train or to detect."""

    kind: Literal["annotations"]
    val: str
    """COCO JSON file, relative to the root."""
    sha256: str | None = None
    """Expected SHA-256 of the annotation file; null: not checked."""

    def annotation_files(self) -> list[str]:
        """The annotation file, relative to the root."""
        return [self.val]


class VocImageSet(Configuration):
    """A list of images of PASCAL VOC."""

    folder: str
    """Folder of a year, which holds ``Annotations``, ``ImageSets`` and ``JPEGImages``, relative to the root."""
    image_set: str
    """Name of the list, ``ImageSets/Main/<image_set>.txt``."""
    image_count: Annotated[int, Ge(1)] | None = None
    """Expected number of images; null: not checked."""

    @property
    def list_file(self) -> str:
        """The list, relative to the root."""
        return f"{self.folder}/ImageSets/Main/{self.image_set}.txt"


class Voc(WithPictures):
    """PASCAL VOC's folders and XML files (:mod:`cascadebench.datasets.voc`)."""

    kind: Literal["voc"]
    train: Annotated[tuple[VocImageSet, ...], MinLen(1)]
    """Lists that are trained on, one after the other."""
    val: Annotated[tuple[VocImageSet, ...], MinLen(1)]
    """Lists that are evaluated on."""

    def annotation_files(self) -> list[str]:
        """Lists of images, relative to the root; the XML files are too many to be named one by one."""
        return [part.list_file for part in (*self.train, *self.val)]


class Synthetic(Configuration):
    """The embedded dataset, drawn from a seed (:mod:`cascadebench.datasets.synthetic`)."""

    kind: Literal["synthetic"]
    revision: Annotated[int, Ge(1)]
    """Must equal the generator's revision: other drawings are another dataset."""
    seed: Annotated[int, Ge(0)]
    image_size: Annotated[int, Ge(32)]
    """Longer side of the images, in pixels."""
    train_images: Annotated[int, Ge(1)]
    val_images: Annotated[int, Ge(1)]


def _kind_of_data(data: Any) -> str:
    """Tell which kind is meant, so that an error speaks of that one alone; a folder need not say so."""
    return data.get("kind", "folder") if isinstance(data, dict) else getattr(data, "kind", "folder")


class DatasetCard(Configuration):
    """A dataset: its categories in the order of the model's outputs, and where it comes from."""

    name: str
    title: str
    source: str = ""
    """Where a reader gets it, and its licence."""
    categories: Annotated[tuple[str, ...], MinLen(1)]
    """Category names in the order of their ids in the annotation files."""
    data: Annotated[
        Annotated[Folder, Tag("folder")]
        | Annotated[Synthetic, Tag("synthetic")]
        | Annotated[Voc, Tag("voc")]
        | Annotated[AnnotationsAlone, Tag("annotations")],
        Discriminator(_kind_of_data),
    ]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("categories must differ from each other")
        return self

    def annotation_files(self) -> list[str]:
        """Annotation files on disk that the prepared dataset is made from; none if it is drawn or not found."""
        if isinstance(self.data, Synthetic):
            return []
        try:
            root = self.data.find(self.name)
        except InputError:
            return []  # `prepare` says what is missing; planning works without the data
        return [str(root / file) for file in self.data.annotation_files()]

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of the prepared dataset."""
        return ("val",) if isinstance(self.data, AnnotationsAlone) else SPLITS

    @property
    def prepared_files(self) -> tuple[str, ...]:
        """Files of the prepared dataset, without ``.json``."""
        pictures = () if isinstance(self.data, AnnotationsAlone) else tuple(f"{split}_pictures" for split in SPLITS)
        return ("lock", *self.splits, *pictures)

    @property
    def checksums(self) -> Literal["sha256", "sizes"]:
        """What is recorded of every picture."""
        return self.data.checksums if isinstance(self.data, WithPictures) else "sha256"

    @property
    def segmentations(self) -> bool:
        """Whether the prepared dataset has a mask for every box."""
        return isinstance(self.data, Synthetic) or (isinstance(self.data, Folder) and self.data.segmentations)

    def identity(self) -> dict:
        """What a run's identity hashes: all but title, source, where the folder lies, and how pictures are compared."""
        value = self.model_dump(mode="json", exclude={"title": True, "source": True, "data": {"root", "checksums"}})
        if not value["data"].get("segmentations", True):
            del value["data"]["segmentations"]  # without them a dataset is what it was before there were any
        return value

    def digest(self) -> str:
        """SHA-256 of :meth:`identity`, 64 hex digits."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()


def load_dataset_card(name: str, asked_by: str = "dataset") -> DatasetCard:
    """Read ``config/datasets/<name>.yaml``, or a card at a path that ends in ``.yaml``."""
    return read_named(DatasetCard, CONFIG / "datasets", name, asked_by)
