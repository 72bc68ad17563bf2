"""Every wrong dataset is refused in one line that names the place, and nothing is written."""

from functools import reduce
from operator import delitem, getitem, setitem

import pytest
from refusals import refused


def change(*keys, to=None):
    """Set a value of the training annotations."""
    return lambda dataset: setitem(reduce(getitem, keys[:-1], dataset.train), keys[-1], to)


def remove(*keys):
    """Delete a value of the training annotations."""
    return lambda dataset: delitem(reduce(getitem, keys[:-1], dataset.train), keys[-1])


def declare(split, **keys):
    """Change what the card says about a split."""
    return lambda dataset: dataset.splits.update({split: dataset.splits[split].model_copy(update=keys)})


def source(content):
    """Replace the whole training file."""
    return lambda dataset: dataset.contents.update(train=content)


def link_outside(dataset):
    (dataset.root / "train" / "a.png").rename(dataset.root.parent / "outside.png")
    (dataset.root / "train" / "a.png").symlink_to(dataset.root.parent / "outside.png")


def remove_pictures(dataset):
    for name in ("a.png", "b.png"):
        (dataset.root / "train" / name).unlink()


def share_picture(dataset):
    declare("val", images="train")(dataset)
    dataset.val["images"][0] = {"id": 10, "file_name": "a.png", "width": 30, "height": 40}


def other_ids_in_val(dataset):
    dataset.val["categories"] = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
    dataset.val["annotations"][0]["category_id"] = 8


def only_crowds(dataset):
    for annotation in dataset.train["annotations"]:
        annotation["iscrowd"] = 1


def box(*values):
    return change("annotations", 0, "bbox", to=list(values))


def image(key, value):
    return change("images", 0, key, to=value)


def names(*pairs):
    return change("categories", to=[{"id": number, "name": name} for number, name in pairs])


BOX, IMAGE = "train.json: annotations[0] (id 2): ", "train.json: images[0] (id 20): "
NAN, INF = float("nan"), float("inf")
WRONG = {
    "truncated": (source(b'{"images": ['), ["train.json: not valid JSON", "line 1 column 12"]),
    "not UTF-8": (source(b'{"images": "\xff"}'), ["train.json: not valid JSON"]),
    "no file": (declare("val", annotations="no.json"), ["no.json: cannot be read: No such file"]),
    "top level a list": (source(b"[]"), ["train.json: ", "object"]),
    "no images": (remove("images"), ["train.json: images: missing"]),
    "no annotations": (remove("annotations"), ["train.json: annotations: missing"]),
    "no categories": (remove("categories"), ["train.json: categories: missing"]),
    "images a mapping": (change("images", to={}), ["train.json: images: ", "array"]),
    "images empty": (change("images", to=[]), ["train.json: images: ", "at least 1"]),
    "annotations empty": (change("annotations", to=[]), ["train.json: annotations: ", "at least 1"]),
    "image a number": (change("images", 0, to=5), ["train.json: images[0]: ", "object"]),
    "image id twice": (image("id", 10), ["train.json: images: id 10 is given twice"]),
    "annotation id twice": (change("annotations", 0, "id", to=1), ["train.json: annotations: id 1 is given twice"]),
    "category id twice": (names((3, "cat"), (7, "dog"), (7, "cow")), ["categories: id 7 is given twice"]),
    "category name twice": (names((3, "cat"), (7, "dog"), (9, "dog")), ["categories: name 'dog' is given twice"]),
    "file name twice": (image("file_name", "a.png"), ["image 20: file_name: 'a.png' is also image 10"]),
    "file twice": (image("file_name", "./a.png"), ["image 20: file_name: './a.png' is also image 10"]),
    "image id text": (image("id", "20"), ["train.json: images[0]: id: ", "integer", "'20'"]),
    "image id fraction": (image("id", 20.5), ["images[0]: id: ", "integer", "'20.5'"]),
    "image id boolean": (image("id", True), ["id: ", "integer", "'True'"]),
    "image id negative": (image("id", -1), ["id: ", "greater than or equal to 0", "'-1'"]),
    "width zero": (image("width", 0), [IMAGE + "width: ", "greater than 0"]),
    "width boolean": (image("width", True), [IMAGE + "width: ", "integer"]),
    "width text": (image("width", "40"), [IMAGE + "width: ", "integer"]),
    "height negative": (image("height", -30), [IMAGE + "height: ", "greater than 0"]),
    "height fraction": (image("height", 30.5), [IMAGE + "height: ", "integer"]),
    "file name a number": (image("file_name", 3), [IMAGE + "file_name: ", "string"]),
    "file name empty": (image("file_name", ""), [IMAGE + "file_name: "]),
    "file name with NUL": (image("file_name", "a\0.png"), [IMAGE + "file_name: "]),
    "file name missing": (remove("images", 0, "file_name"), [IMAGE + "file_name: missing"]),
    "box missing": (remove("annotations", 0, "bbox"), [BOX + "bbox: missing"]),
    "box null": (change("annotations", 0, "bbox", to=None), [BOX + "bbox: "]),
    "box of three": (box(1, 2, 3), [BOX + "bbox[3]: missing"]),
    "box of five": (box(1, 2, 3, 4, 5), [BOX + "bbox: ", "4 items"]),
    "box with text": (box(1, 2, "3", 4), [BOX + "bbox[2]: ", "number", "'3'"]),
    "box with boolean": (box(1, 2, True, 4), [BOX + "bbox[2]: ", "number", "'True'"]),
    "box with NaN": (box(NAN, 2, 3, 4), [BOX + "bbox[0]: ", "finite"]),
    "box with infinity": (box(1, 2, INF, 4), [BOX + "bbox[2]: ", "finite"]),
    "box near infinity": (box(1e308, 2, 1e308, 4), ["annotation 2: bbox ", "leaves its 40 x 30 image"]),
    "area negative": (change("annotations", 0, "area", to=-1), [BOX + "area: ", "greater than or equal to 0"]),
    "area NaN": (change("annotations", 0, "area", to=NAN), [BOX + "area: ", "'nan'"]),
    "iscrowd 2": (change("annotations", 0, "iscrowd", to=2), [BOX + "iscrowd: ", "less than or equal to 1", "'2'"]),
    "iscrowd boolean": (change("annotations", 0, "iscrowd", to=True), [BOX + "iscrowd: ", "integer", "'True'"]),
    "unknown image": (change("annotations", 0, "image_id", to=99), ["annotation 2: image_id: no image has id 99"]),
    "unknown category": (change("annotations", 0, "category_id", to=4), ["annotation 2: category_id: 4 ", "3, 7"]),
    "only crowds": (only_crowds, ["train.json: annotations: ", "crowd"]),
    "other category": (names((3, "cat"), (7, "cow")), ["train.json: categories: lacks dog", "cow", "lists cat, dog"]),
    "one more category": (names((3, "cat"), (7, "dog"), (9, "cow")), ["categories: ", "unexpected cow"]),
    "other order": (names((3, "dog"), (7, "cat")), ["categories: has 'dog' at place 1", "expected 'cat'"]),
    "other ids": (other_ids_in_val, ["val.json: categories: id 8 'dog' where ", "train.json has id 7 'dog'"]),
    "box ends outside": (box(35, 5, 6.25, 3), ["annotation 2: bbox ", "leaves its 40 x 30 image by 1.25 pixels"]),
    "box starts outside": (box(1, -1.5, 6, 3), ["annotation 2: bbox ", "by 1.5 pixels; allowed: 1"]),
    "box without width": (box(1, 1, 0, 3), ["annotation 2: bbox ", "no area", "boxes_without_area: drop"]),
    "box of negative height": (box(1, 9, 5, -3), ["annotation 2: bbox ", "no area"]),
    "box in the border": (box(-0.5, 1, 0.5, 3), ["annotation 2: bbox ", "no area"]),
    "pictures missing": (remove_pictures, ["train.json: image 10: 'a.png' is not in ", "2 of 2 pictures are missing"]),
    "picture a folder": (image("file_name", "."), ["image 20: '.' is not in ", "1 of 2"]),
    "file name too long": (image("file_name", "a" * 5000), ["image 20: ", "1 of 2"]),
    "file name leaves": (image("file_name", "../val/c.png"), ["image 20: file_name: '../val/c.png' leaves"]),
    "file name absolute": (image("file_name", "/etc/passwd"), ["image 20: file_name: '/etc/passwd' leaves"]),
    "link leaves": (link_outside, ["train.json: image 10: file_name: 'a.png' leaves"]),
    "annotations leave": (declare("train", annotations="../a.json"), ["data.train.annotations: '../a.json' leaves"]),
    "images leave": (declare("train", images="../other"), ["data.train.images: '../other' leaves"]),
    "images no folder": (declare("train", images="no"), ["data.train.images: ", "no is not a folder"]),
    "no root": (lambda dataset: dataset.options.update(root=("no/such",)), ["'pets'", "no folder", "no/such"]),
    "other size": (image("width", 39), ["image 20: 'b.png' is 40 x 30 pixels", "39 x 30"]),
    "no picture": (lambda d: (d.root / "train/a.png").write_text("x"), ["image 10: 'a.png' cannot be read as a"]),
    "count of images": (declare("train", image_count=3), ["train.json: its image_count is 2; ", "expects 3"]),
    "count of boxes": (declare("val", annotation_count=2), ["val.json: its annotation_count is 1; ", "expects 2"]),
    "checksum": (declare("train", sha256="0" * 64), ["train.json: its sha256 is ", "data.train.sha256 expects 000"]),
    "leak": (share_picture, ["val.json: image 10: 'a.png' is also image 10 of ", "train.json", "must not share"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_in_one_line_and_nothing_is_written(dataset, case):
    spoil, expected = WRONG[case]
    spoil(dataset)
    with refused(*expected):
        dataset.prepare()
    assert list(dataset.out.parent.iterdir()) == []
