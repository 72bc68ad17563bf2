"""PASCAL VOC: made-up development kits on disk, what becomes of them, and what is refused."""

import hashlib
import json
from pathlib import Path

import pytest
from detection_cases import detections
from PIL import Image
from refusals import refused

from cascadebench.core.configuration import validated
from cascadebench.core.errors import InputError
from cascadebench.datasets.card import DatasetCard, load_dataset_card
from cascadebench.datasets.prepare import prepare
from cascadebench.datasets.prepared import load_split, trainable
from cascadebench.metrics.coco.ap_table import full_area
from cascadebench.metrics.coco.evaluate import evaluate

SIZE = (50, 40)
# By year and image: name, xmin, ymin, xmax, ymax, and whether it is difficult (None: the file does not say).
OBJECTS = {
    ("VOC2007", "000005"): [("dog", 1, 1, 50, 40, 0), ("cat", 11, 21, 11, 21, 1)],
    ("VOC2007", "000007"): [("cat", 5.5, 6, 9.25, 12, None)],
    ("VOC2012", "2008_000002"): [("dog", 2, 3, 4, 5, 1)],
    ("VOC2012", "2008_000003"): [],
    ("VOC2007", "000006"): [("dog", 10, 10, 19, 29, 0)],
}
LISTS = {
    ("VOC2007", "trainval"): ["000005", "000007"],
    ("VOC2012", "trainval"): ["2008_000002", "2008_000003"],
    ("VOC2007", "test"): ["000006"],
}
PART = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"


def xml(objects: list[tuple]) -> str:
    """Write the file of an image; an object's first child is a part with a name and a box of its own."""
    text = f"<annotation><size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>"
    for name, xmin, ymin, xmax, ymax, difficult in objects:
        says = "" if difficult is None else f"<difficult>{difficult}</difficult>"
        box = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
        text += f"<object>{PART}<name>{name}</name>{says}<bndbox>{box}</bndbox></object>"
    return f"{text}</annotation>\n"


class Kit:
    """A development kit that a test may spoil, and its card."""

    def __init__(self, folder: Path) -> None:
        self.root, self.out = folder / "source", folder / "results" / "pets"
        self.data = {
            "kind": "voc",
            "root": [str(self.root)],
            "train": [
                {"folder": "VOCdevkit/VOC2007", "image_set": "trainval", "image_count": 2},
                {"folder": "VOCdevkit/VOC2012", "image_set": "trainval", "image_count": 2},
            ],
            "val": [{"folder": "VOCdevkit/VOC2007", "image_set": "test", "image_count": 1}],
        }
        for (year, name), objects in OBJECTS.items():
            self.write(f"{year}/Annotations/{name}.xml", xml(objects))
            picture = self.write(f"{year}/JPEGImages/{name}.jpg", "")
            Image.new("RGB", SIZE).save(picture)
        for (year, image_set), names in LISTS.items():
            self.write(f"{year}/ImageSets/Main/{image_set}.txt", "".join(f"{name}\n" for name in names))

    def write(self, path: str, text: str) -> Path:
        """Write a file of the kit."""
        place = self.root / "VOCdevkit" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    @property
    def card(self) -> DatasetCard:
        content = {"name": "pets", "title": "Pets", "categories": ["cat", "dog"], "data": self.data}
        return validated(DatasetCard, content, "pets.yaml")

    def prepare(self) -> dict:
        prepare(self.card, self.out)
        return {name: json.loads((self.out / f"{name}.json").read_text()) for name in ("train", "val", "lock")}


@pytest.fixture
def kit(tmp_path):
    return Kit(tmp_path)


def annotation(number, image, category, box, crowd):
    area = box[2] * box[3]
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": crowd}


def test_boxes_count_pixels_from_0_and_difficult_objects_are_crowd_regions(kit):
    found = kit.prepare()
    names = ["VOC2007/JPEGImages/000005", "VOC2007/JPEGImages/000007", "VOC2012/JPEGImages/2008_000002"]
    names.append("VOC2012/JPEGImages/2008_000003")
    assert found["train"] == {
        "images": [
            {"id": number, "file_name": f"VOCdevkit/{name}.jpg", "width": 50, "height": 40}
            for number, name in enumerate(names, start=1)
        ],
        "annotations": [
            annotation(1, 1, 2, [0, 0, 50, 40], 0),
            annotation(2, 1, 1, [10, 20, 1, 1], 1),
            annotation(3, 2, 1, [4.5, 5, 4.75, 7], 0),
            annotation(4, 3, 2, [1, 2, 3, 3], 1),
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    assert found["val"]["annotations"] == [annotation(1, 1, 2, [9, 9, 10, 20], 0)]


def test_the_lock_counts_and_has_the_checksum_of_lists_and_xml_files(kit):
    lock = kit.prepare()["lock"]["splits"]["train"]
    assert (lock["images"], lock["annotations"], lock["crowd"], lock["dropped"], lock["clipped"]) == (4, 4, 2, 0, 0)
    assert lock["image_root"] == str(kit.root)
    expected = hashlib.sha256()
    for year in ("VOC2007", "VOC2012"):
        folder = kit.root / "VOCdevkit" / year
        expected.update((folder / "ImageSets/Main/trainval.txt").read_bytes())
        for name in LISTS[year, "trainval"]:
            expected.update((folder / f"Annotations/{name}.xml").read_bytes())
    assert lock["source_sha256"] == expected.hexdigest()


def test_difficult_objects_are_not_trained_on(kit):
    kit.prepare()
    split = load_split(kit.out, "train")
    assert [record.boxes.tolist() for record in split.records] == [[[0, 0, 50, 40]], [[4.5, 5, 9.25, 12]], [], []]
    assert [record.path.name for record in trainable(split)] == ["000005.jpg", "000007.jpg"]
    assert [record.labels.tolist() for record in trainable(split)] == [[1], [0]]


@pytest.mark.parametrize(
    ("name", "box", "expected"),
    [
        ("apart", [0, 0, 8, 8], 0.5),  # a wrong detection with the higher score halves the precision
        ("most of it in the difficult object", [20, 20, 5, 5], 1.0),
        ("half of it in the difficult object, enough for IoU 0.5 alone", [15, 20, 10, 5], 0.55),
    ],
)
def test_a_detection_in_a_difficult_object_is_left_out_of_the_count(kit, name, box, expected):
    kit.write("VOC2007/Annotations/000006.xml", xml([("dog", 41, 1, 50, 10, 0), ("dog", 21, 11, 40, 40, 1)]))
    kit.prepare()
    found = full_area(evaluate(kit.out / "val.json", detections([(1, 2, 0.9, *box), (1, 2, 0.8, 40, 0, 10, 10)])))
    assert found[found["category"] == "dog"]["ap"].mean() == pytest.approx(expected)


def test_a_box_one_pixel_beyond_the_border_is_clipped(kit):
    kit.write("VOC2007/Annotations/000006.xml", xml([("dog", 0, 1, 51, 41, 0)]))
    found = kit.prepare()
    assert found["val"]["annotations"] == [annotation(1, 1, 2, [0, 0, 50, 40], 0)]
    assert found["lock"]["splits"]["val"]["clipped"] == 1


def test_the_same_kit_gives_the_same_bytes(kit):
    kit.prepare()
    before = {path.name: path.read_bytes() for path in kit.out.iterdir()}
    kit.prepare()
    assert {path.name: path.read_bytes() for path in kit.out.iterdir()} == before


def test_where_the_kit_lies_is_no_part_of_its_identity(kit):
    before = kit.card.digest()
    kit.data["root"] = ["/elsewhere"]
    assert kit.card.digest() == before
    kit.data["train"] = kit.data["train"][:1]
    assert kit.card.digest() != before


def test_snakemake_watches_the_lists(kit):
    folder = kit.root / "VOCdevkit"
    lists = ("VOC2007/ImageSets/Main/trainval", "VOC2012/ImageSets/Main/trainval", "VOC2007/ImageSets/Main/test")
    assert kit.card.annotation_files() == [str(folder / f"{name}.txt") for name in lists]


def test_voc0712_is_that_of_the_papers(monkeypatch):
    monkeypatch.delenv("VOC_ROOT", raising=False)
    card = load_dataset_card("voc0712")
    assert len(card.categories) == 20
    assert list(card.categories) == sorted(card.categories)
    counts = {split: [part.image_count for part in getattr(card.data, split)] for split in ("train", "val")}
    assert counts == {"train": [5011, 11540], "val": [4952]}
    assert sum(counts["train"]) == 16_551
    assert card.annotation_files() == []
    with pytest.raises(InputError, match=r"no folder at any root.*VOC_ROOT\} \(not set\)"):
        card.data.find(card.name)


def first(text):
    """Replace the XML of the first image."""
    return lambda kit: kit.write("VOC2007/Annotations/000005.xml", text)


def one(*values):
    """Give the first image one object."""
    return first(xml([values]))


def change(old, new):
    """Replace a piece of the first image's XML."""
    text = xml(OBJECTS["VOC2007", "000005"])
    assert old in text
    return first(text.replace(old, new, 1))


def listed(text):
    """Replace the list of VOC2007's training images."""
    return lambda kit: kit.write("VOC2007/ImageSets/Main/trainval.txt", text)


def remove(path):
    return lambda kit: (kit.root / "VOCdevkit" / path).unlink()


def declare(split, number, **keys):
    return lambda kit: kit.data[split][number].update(keys)


def validate_on(*objects):
    """Replace the objects of the only validation image."""
    return lambda kit: kit.write("VOC2007/Annotations/000006.xml", xml(list(objects)))


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
XML, DOG = "000005.xml: ", "000005.xml: object 1: "
WRONG = {
    "no list": (remove("VOC2012/ImageSets/Main/trainval.txt"), ["VOC2012/ImageSets/Main/trainval.txt: cannot be read"]),
    "list of a class": (listed("000005  1\n000007 -1\n"), ["trainval.txt: one name on a line", "found '000005 1'"]),
    "listed twice": (listed("000005\n000005\n"), ["trainval.txt: '000005' is listed twice"]),
    "too few": (listed("000005\n"), ["trainval.txt: its image_count is 1; ", "data.train[0].image_count expects 2"]),
    "too many": (declare("val", 0, image_count=4952), ["test.txt: its image_count is 1; ", "data.val[0]", "4952"]),
    "list leaves": (declare("train", 1, folder="../other"), ["data.train[1]: '../other/ImageSets", "leaves its"]),
    "name leaves": (listed("000005\n../../../../x\n"), ["trainval.txt: ../../../../x: ", "leaves its folder"]),
    "no XML": (remove("VOC2007/Annotations/000005.xml"), [XML, "cannot be read: No such file"]),
    "no picture": (remove("VOC2007/JPEGImages/000005.jpg"), ["VOC2007/JPEGImages/000005.jpg' is not in ", "1 of 4"]),
    "no XML text": (first("<annotation>"), [XML + "not valid XML: ", "line 1"]),
    "not UTF-8": (
        lambda kit: (kit.root / "VOCdevkit/VOC2007/Annotations/000005.xml").write_bytes(b"<a>\xff</a>"),
        [XML + "not UTF-8 text (byte 3)"],
    ),
    "entities": (first(BOMB), [XML + "<!DOCTYPE is not allowed"]),
    "no size": (first("<annotation/>"), [XML + "size: missing"]),
    "no width": (change("<width>50</width>", ""), [XML + "size: width: missing"]),
    "width 0": (change("<width>50<", "<width>0<"), [XML + "size: width: a whole number of pixels", "found 0"]),
    "height a fraction": (change("<height>40<", "<height>40.5<"), [XML + "size: height: a whole number", "40.5"]),
    "other size": (change("<width>50<", "<width>60<"), ["000005.jpg' is 50 x 40 pixels", "60 x 40"]),
    "unknown name": (one("cow", 1, 1, 2, 2, 0), [DOG + "name: 'cow' is unknown; allowed: cat, dog"]),
    "no name": (change("<name>dog</name>", ""), [DOG + "name: missing"]),
    "no box": (first(xml([]).replace("</annotation>", "<object><name>dog</name></object></annotation>")),
               [DOG + "bndbox: missing"]),
    "no xmax": (change("<xmax>50</xmax>", ""), [DOG + "bndbox: xmax: missing"]),
    "text in a box": (one("dog", 1, 1, "wide", 2, 0), [DOG + "bndbox: xmax: a number is expected; found 'wide'"]),
    "NaN in a box": (one("dog", "nan", 1, 2, 2, 0), [DOG + "bndbox: xmin: a number is expected; found 'nan'"]),
    "ends outside": (one("dog", 1, 1, 52, 2, 0), [DOG + "bndbox: xmax: 52 is outside the image of width 50; ",
                                                  "allowed: 1 to 51"]),
    "starts outside": (one("dog", 1, -1, 2, 2, 0), [DOG + "bndbox: ymin: -1 is outside the image of height 40; ",
                                                    "allowed: 0 to 40"]),
    "ends first": (one("dog", 9, 1, 8, 2, 0), [DOG + "bndbox: xmax: 8 is less than xmin 9"]),
    "difficult 2": (one("dog", 1, 1, 2, 2, 2), [DOG + "difficult: '2'; allowed: 0, 1"]),
    "no object": (validate_on(), ["data.val: not one object in 1 images"]),
    "only difficult": (validate_on(("dog", 1, 1, 2, 2, 1)), ["annotations: not one has area and is no crowd region"]),
    "leak": (lambda kit: kit.data.update(val=kit.data["train"][:1]),
             ["000005.jpg' is also image 1", "train and val must not share pictures"]),
    "no root": (lambda kit: kit.data.update(root=["no/such"]), ["'pets'", "no folder", "no/such"]),
    "unknown key": (declare("train", 0, year=2007), ["pets.yaml: data.voc.train.0.year: unknown key"]),
    "no lists": (lambda kit: kit.data.update(val=[]), ["pets.yaml: ", "val: ", "at least 1"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_kit_is_refused_in_one_line_and_nothing_is_written(kit, case):
    spoil, expected = WRONG[case]
    spoil(kit)
    with refused(*expected):
        kit.prepare()
    assert not kit.out.parent.exists() or list(kit.out.parent.iterdir()) == []
