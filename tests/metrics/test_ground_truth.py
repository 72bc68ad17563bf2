"""Annotations that are not in COCO's format are refused with the place and what is expected."""

import json

import pytest

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.ground_truth import read_ground_truth


def annotations(**change):
    """Two images, two categories, two objects; `change` replaces keys of the second object."""
    first = {"id": 4, "image_id": 2, "category_id": 9, "bbox": [0, 0, 3, 5], "segmentation": [[0, 0, 3, 0, 3, 5]]}
    return {
        "images": [{"id": 2, "file_name": "b.png"}, {"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 9, "name": "ring"}, {"id": 5, "name": "disc"}],
        "annotations": [first, first | {"id": 1, "iscrowd": 1, "area": 7.5} | change],
    }


def test_sorted_ids_and_completed_annotations(tmp_path):
    path = tmp_path / "val.json"
    path.write_text(json.dumps(annotations()))
    truth = read_ground_truth(path)
    assert truth.source == str(path)
    assert truth.image_ids.tolist() == [1, 2]
    assert (truth.category_ids.tolist(), truth.category_names) == ([5, 9], ("disc", "ring"))
    assert truth.boxes["area"].tolist() == [15, 7.5]
    assert truth.boxes["iscrowd"].tolist() == [0, 1]
    assert truth.boxes[["x", "y", "w", "h"]].to_numpy().tolist() == [[0, 0, 3, 5]] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 3}, r"annotations\[1\]\.image_id: 3 is not among the images"),
        ({"category_id": 3}, r"annotations\[1\]\.category_id: 3 is not among the categories"),
        ({"image_id": "2"}, r'annotations\[1\]\.image_id: a whole number is expected, found "2"'),
        ({"image_id": True}, r"annotations\[1\]\.image_id: a whole number is expected, found true"),
        ({"image_id": 2**70}, r"annotations\[1\]\.image_id: 1180591620717411303424 does not fit"),
        ({"bbox": [0, 0, 3]}, r"annotations\[1\]\.bbox: \[x, y, width, height\] is expected, found \[0, 0, 3\]"),
        ({"bbox": [0, 0, 3, "5"]}, r"annotations\[1\]\.bbox: \[x, y, width, height\] is expected"),
        ({"bbox": {"x": 0}}, r"annotations\[1\]\.bbox: \[x, y, width, height\] is expected"),
        ({"bbox": [0, 0, -3, 5]}, r"annotations\[1\]\.bbox: finite numbers with width and height at least 0"),
        ({"bbox": [0, 0, 3, float("inf")]}, r"annotations\[1\]\.bbox: finite numbers"),
        ({"bbox": [0, 0, 3, 10**400]}, r"annotations: bbox: a whole number is too large"),
        ({"iscrowd": 2}, r"annotations\[1\]\.iscrowd: 0 or 1 is expected, found 2"),
        ({"area": -1.0}, r"annotations\[1\]\.area: at least 0 is expected, found -1"),
        ({"area": None}, r"annotations\[1\]\.area: a number is expected, found null"),
        ({"id": 4}, r"annotations: the id 4 is given twice"),
    ],
)
def test_bad_annotation(change, message):
    with pytest.raises(InputError, match="^ground truth: " + message):
        read_ground_truth(annotations(**change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, r"images: a list is expected, found null"),
        ({"images": [{"id": 2}, {"id": 2}]}, r"images\[1\]\.id: 2 is given twice"),
        ({"images": [{"id": 2}, {"file_name": "a"}]}, r"images\[1\]: the key 'id' is missing"),
        ({"annotations": [{}, 3]}, r"annotations\[1\]: an object is expected, found 3"),
        (
            {"categories": [{"id": 9, "name": "a"}, {"id": 5, "name": "a"}]},
            r'categories\[1\]\.name: "a" is given twice',
        ),
        ({"categories": [{"id": 9, "name": "a"}, {"id": 9, "name": "b"}]}, r"categories\[1\]\.id: 9 is given twice"),
        ({"categories": [{"id": 9, "name": "all"}]}, r"categories\[0\]\.name: 'all' stands for the mean"),
    ],
)
def test_bad_list(change, message):
    with pytest.raises(InputError, match="^ground truth: " + message):
        read_ground_truth(annotations() | change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "COCO annotations are an object"),
        ('{"images": []}', "the key 'categories' is missing"),
        ("{", "not valid JSON"),
    ],
)
def test_bad_file(tmp_path, text, message):
    path = tmp_path / "val.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        read_ground_truth(path)
