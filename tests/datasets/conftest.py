"""A small COCO-format dataset on disk that a test may spoil before it is prepared."""

import copy
import json
from pathlib import Path

import pytest
from PIL import Image

from cascadebench.datasets.card import DatasetCard, Folder, Split
from cascadebench.datasets.prepare import prepare

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]  # ids neither from 1 nor sorted
TRAIN = {
    "images": [
        {"id": 20, "file_name": "b.png", "width": 40, "height": 30},
        {"id": 10, "file_name": "a.png", "width": 30, "height": 40, "license": 1},
    ],
    "annotations": [
        {"id": 2, "image_id": 20, "category_id": 7, "bbox": [1, 2, 10.5, 20], "segmentation": [[0, 0, 1, 1, 2, 0]]},
        {"id": 1, "image_id": 10, "category_id": 3, "bbox": [3, 4, 5, 6], "area": 17.5, "iscrowd": 0},
        {"id": 5, "image_id": 10, "category_id": 3, "bbox": [0, 0, 30, 40], "area": 1000, "iscrowd": 1},
    ],
    "categories": CATEGORIES,
}
VAL = {
    "images": [{"id": 10, "file_name": "c.png", "width": 16, "height": 16}],
    "annotations": [{"id": 1, "image_id": 10, "category_id": 7, "bbox": [0, 0, 8, 8]}],
    "categories": CATEGORIES,
}


class Dataset:
    """What a test changes, and where it is written; attributes are read when :meth:`prepare` is called."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "source"
        self.out = folder / "results" / "pets"
        self.train, self.val = copy.deepcopy(TRAIN), copy.deepcopy(VAL)
        self.splits = {
            "train": Split(annotations="train.json", images="train"),
            "val": Split(annotations="val.json", images="val"),
        }
        self.options = {"root": (str(self.root),)}
        self.contents = {}
        for split, content in (("train", TRAIN), ("val", VAL)):
            (self.root / split).mkdir(parents=True)
            for image in content["images"]:
                Image.new("RGB", (image["width"], image["height"])).save(self.root / split / image["file_name"])

    @property
    def card(self) -> DatasetCard:
        data = Folder(**self.splits, **self.options)
        return DatasetCard(name="pets", title="Pets", categories=("cat", "dog"), data=data)

    def write_source(self) -> None:
        for split in ("train", "val"):
            content = self.contents.get(split, json.dumps(getattr(self, split)).encode())
            (self.root / f"{split}.json").write_bytes(content)

    def prepare(self) -> dict:
        self.write_source()
        prepare(self.card, self.out)
        return {name: json.loads((self.out / f"{name}.json").read_text()) for name in ("train", "val", "lock")}


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path)
