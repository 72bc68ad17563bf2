"""What a prepared dataset holds."""

import hashlib
import json

import pytest

from cascadebench.core.configuration import read_model
from cascadebench.core.errors import InputError
from cascadebench.core.files import sha256_of
from cascadebench.datasets import checks
from cascadebench.datasets.card import DatasetCard, Synthetic, load_dataset_card
from cascadebench.datasets.describe import describe_folder
from cascadebench.datasets.prepare import prepare
from cascadebench.datasets.prepared import load_split


def test_prepared_files_hold_what_was_read(dataset):
    found = dataset.prepare()
    assert found["train"]["images"] == [
        {"id": 10, "file_name": "a.png", "width": 30, "height": 40},
        {"id": 20, "file_name": "b.png", "width": 40, "height": 30},
    ]
    assert found["train"]["annotations"] == [
        {"id": 1, "image_id": 10, "category_id": 3, "bbox": [3, 4, 5, 6], "area": 17.5, "iscrowd": 0},
        {"id": 2, "image_id": 20, "category_id": 7, "bbox": [1, 2, 10.5, 20], "area": 210, "iscrowd": 0},
        {"id": 5, "image_id": 10, "category_id": 3, "bbox": [0, 0, 30, 40], "area": 1000, "iscrowd": 1},
    ]
    lock = found["lock"]
    assert (lock["dataset"], lock["digest"]) == ("pets", dataset.card.digest())
    assert lock["categories"] == [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    assert lock["splits"]["train"] == {
        "image_root": str(dataset.root / "train"),
        "images": 2,
        "annotations": 3,
        "crowd": 1,
        "dropped": 0,
        "clipped": 0,
        "source_sha256": sha256_of(dataset.root / "train.json"),
        "image_ids_sha256": hashlib.sha256(b"10\n20\n").hexdigest(),
        "annotations_sha256": hashlib.sha256(
            b"10 cat 0 300 400 500 600 1750\n10 cat 1 0 0 3000 4000 100000\n20 dog 0 100 200 1050 2000 21000\n"
        ).hexdigest(),
        "prepared_sha256": sha256_of(dataset.out / "train.json"),
        "pictures": "sha256",
        "pictures_sha256": sha256_of(dataset.out / "train_pictures.json"),
    }


def test_prepared_files_are_read_back_with_labels_in_the_order_of_the_card(dataset):
    dataset.prepare()
    split = load_split(dataset.out, "train")
    assert split.category_ids == (3, 7)
    first, second = split.records
    assert first.path == dataset.root / "train" / "a.png"
    assert first.labels.tolist() == [0] and second.labels.tolist() == [1]
    assert second.boxes.tolist() == [[1, 2, 11.5, 22]]


def test_same_source_gives_same_bytes_and_only_these_files(dataset):
    dataset.prepare()
    before = {path.name: path.read_bytes() for path in dataset.out.iterdir()}
    prepared = [f"{name}.json" for name in dataset.card.prepared_files]
    assert sorted(before) == sorted([".pictures_read.json", *prepared])
    dataset.prepare()
    assert {path.name: path.read_bytes() for path in dataset.out.iterdir()} == before
    assert [path.name for path in dataset.out.parent.iterdir()] == ["pets"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([-1.0, 2, 10, 10], [0, 2, 9, 10]),
        ([31, 0.5, 9.01, 30.5], [31, 0.5, 9, 29.5]),
        ([-0.25, -0.5, 41, 31], [0, 0, 40, 30]),
    ],
)
def test_boxes_up_to_a_pixel_outside_are_clipped_and_counted(dataset, given, expected):
    dataset.train["annotations"][0]["bbox"] = given
    found = dataset.prepare()
    assert found["train"]["annotations"][1]["bbox"] == pytest.approx(expected, abs=1e-9)
    assert found["lock"]["splits"]["train"]["clipped"] == 1


def test_floating_point_noise_is_not_clipped(dataset):
    dataset.train["annotations"][0]["bbox"] = [30, 1, 10.0000001, 2]
    found = dataset.prepare()
    assert found["train"]["annotations"][1]["bbox"] == [30, 1, 10.0000001, 2]
    assert found["lock"]["splits"]["train"]["clipped"] == 0


@pytest.mark.parametrize("box", [[5, 5, 0, 3], [5, 5, 3, 0], [5, 5, -1, 3], [40.5, 5, 0.25, 3]])
def test_boxes_without_area_are_dropped_if_the_card_says_so(dataset, box):
    dataset.options["boxes_without_area"] = "drop"
    dataset.train["annotations"][0]["bbox"] = box
    found = dataset.prepare()
    assert [annotation["id"] for annotation in found["train"]["annotations"]] == [1, 5]
    lock = found["lock"]["splits"]["train"]
    assert (lock["annotations"], lock["dropped"], lock["clipped"]) == (2, 1, 0)


def test_a_failure_leaves_what_was_prepared_before(dataset):
    dataset.prepare()
    before = {path.name: path.read_bytes() for path in dataset.out.iterdir()}
    dataset.train["annotations"][0]["bbox"] = [0, 0, 100, 100]
    with pytest.raises(InputError):
        dataset.prepare()
    assert {path.name: path.read_bytes() for path in dataset.out.iterdir()} == before


def test_of_many_pictures_a_spread_sample_is_opened(dataset, monkeypatch):
    monkeypatch.setattr(checks, "MOST_PICTURES_OPENED", 3)
    dataset.train["images"] = [
        {"id": number, "file_name": f"{number}.png", "width": 40, "height": 40} for number in range(1, 21)
    ]
    for number in range(1, 21):
        (dataset.root / "train" / f"{number}.png").write_text("no picture")
    for annotation in dataset.train["annotations"]:
        annotation["image_id"] = 1
    opened = []

    class Opened:
        size = (40, 40)

        def __init__(self, path):
            opened.append(path.stem)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    dataset.val["images"][0].update(width=40, height=40)
    monkeypatch.setattr(checks.Picture, "open", Opened)
    dataset.prepare()
    assert opened == ["1", "11", "20", "c"]


def test_synthetic_dataset_is_drawn_into_the_folder(tmp_path):
    data = Synthetic(kind="synthetic", revision=2, seed=5, image_size=64, train_images=3, val_images=2)
    card = DatasetCard(name="drawn", title="Drawn", categories=("disc", "star"), data=data)
    folder = tmp_path / "drawn"
    prepare(card, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    assert len(before) == 5 + 5
    assert json.loads((folder / "lock.json").read_text())["splits"]["val"]["image_root"] == "images/val"
    assert [record.path.name for record in load_split(folder, "val").records] == ["000001.png", "000002.png"]
    prepare(card, folder)  # over what is there
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_another_revision_is_refused_and_nothing_is_drawn(tmp_path):
    data = Synthetic(kind="synthetic", revision=99, seed=5, image_size=64, train_images=3, val_images=2)
    card = DatasetCard(name="drawn", title="Drawn", categories=("disc",), data=data)
    with pytest.raises(InputError, match="revision: 99"):
        prepare(card, tmp_path / "drawn")
    assert list(tmp_path.iterdir()) == []


def test_described_folder_is_a_card_that_prepares(dataset, tmp_path):
    dataset.prepare()
    text = describe_folder(dataset.root, "my-pets", ("train.json", "train"), ("val.json", "val"))
    (tmp_path / "card.yaml").write_text(text)
    card = read_model(DatasetCard, tmp_path / "card.yaml")
    assert card.categories == ("cat", "dog")
    assert card.data.root == ("${MY_PETS_ROOT}", str(dataset.root))
    assert (card.data.train.image_count, card.data.train.annotation_count) == (2, 3)
    assert card.data.val.sha256 == sha256_of(dataset.root / "val.json")
    prepare(card, tmp_path / "again")
    assert (tmp_path / "again" / "train.json").read_bytes() == (dataset.out / "train.json").read_bytes()


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        (("train.json", "no"), ("val.json", "val"), "train images: 'no' is not a folder"),
        (("../train.json", "train"), ("val.json", "val"), "train annotations: '../train.json' leaves"),
        (("train.json", "train"), ("no.json", "val"), "no.json: cannot be read"),
    ],
)
def test_describing_a_wrong_folder_is_refused(dataset, train, val, expected):
    dataset.write_source()
    with pytest.raises(InputError, match=expected):
        describe_folder(dataset.root, "pets", train, val)


def test_real_blood_cells_are_prepared(tmp_path):
    card = load_dataset_card("blood_cells")
    try:
        card.data.find(card.name)
    except InputError as missing:
        pytest.skip(f"the blood-cell pictures are not here: {missing}")
    prepare(card, tmp_path / card.name)
    lock = json.loads((tmp_path / card.name / "lock.json").read_text())["splits"]
    assert (lock["train"]["clipped"], lock["val"]["clipped"]) == (16, 4)
    assert (lock["train"]["annotations"], lock["val"]["annotations"]) == (18616, 5334)
