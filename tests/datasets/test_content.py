"""What a dataset is by its content: neither order, ids of annotations nor numbers of categories are part of it."""

import pytest

from cascadebench.datasets.content import categories_digest, split_content

NAMES = {1: "cat", 5: "dog"}
BOXES = [
    {"id": 1, "image_id": 3, "category_id": 1, "bbox": [1, 2, 3.25, 4], "area": 13, "iscrowd": 0},
    {"id": 2, "image_id": 8, "category_id": 5, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1},
]


def changed(**values):
    return [BOXES[0] | values, BOXES[1]]


SAME = {
    "in another order": ([8, 3], BOXES[::-1], NAMES),
    "other ids of annotations": ([3, 8], changed(id=77), NAMES),
    "other numbers of categories": ([3, 8], [BOXES[0] | {"category_id": 2}, BOXES[1]], {2: "cat", 5: "dog"}),
    "last digits of a float": ([3, 8], changed(bbox=[1.0000001, 2, 3.2499999, 4]), NAMES),
    "a zero below zero": ([3, 8], [BOXES[0], BOXES[1] | {"bbox": [-0.0, -1e-9, 9, 9]}], NAMES),
}
OTHER = {
    "another category": ([3, 8], changed(category_id=5), NAMES),
    "another name": ([3, 8], BOXES, {1: "cow", 5: "dog"}),
    "a moved box": ([3, 8], changed(bbox=[1.01, 2, 3.25, 4]), NAMES),
    "another area": ([3, 8], changed(area=12), NAMES),
    "no crowd": ([3, 8], [BOXES[0], BOXES[1] | {"iscrowd": 0}], NAMES),
    "another image": ([3, 8], changed(image_id=8), NAMES),
    "a box less": ([3, 8], BOXES[:1], NAMES),
    "a box twice": ([3, 8], [*BOXES, BOXES[0]], NAMES),
}


@pytest.mark.parametrize("what", SAME)
def test_the_same_content(what):
    assert split_content(*SAME[what]) == split_content([3, 8], BOXES, NAMES)


@pytest.mark.parametrize("what", OTHER)
def test_other_content(what):
    ours, other = split_content([3, 8], BOXES, NAMES), split_content(*OTHER[what])
    assert ours["annotations_sha256"] != other["annotations_sha256"]


def test_images_and_categories_are_told_apart():
    assert split_content([3, 8], [], {})["image_ids_sha256"] != split_content([38], [], {})["image_ids_sha256"]
    assert categories_digest(["cat", "dog"]) != categories_digest(["dog", "cat"])
