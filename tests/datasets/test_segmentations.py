"""Segmentations of a dataset: kept where its card says that there are any, checked, and read back if asked for."""

import json

import numpy as np
import pytest

from cascadebench.core.configuration import read_model
from cascadebench.core.errors import InputError
from cascadebench.datasets.card import DatasetCard
from cascadebench.datasets.describe import describe_folder
from cascadebench.datasets.masks import bitmap, encoded_bitmap, problem_with, run_lengths
from cascadebench.datasets.prepare import prepare
from cascadebench.datasets.prepared import load_split

POLYGONS = [[1, 2, 11, 2, 11.5, 22.25], [1, 20, 3, 20, 3, 22]]
RUNS = {"size": [40, 30], "counts": [100, 20, 1080]}
CROWD = {"size": [40, 30], "counts": "0`U1"}  # no zero, 1200 ones


@pytest.fixture
def segmented(dataset):
    """The small dataset with polygons, run lengths, and a crowd region's run lengths as text."""
    dataset.options["segmentations"] = True
    for annotation, mask in zip(dataset.train["annotations"], (POLYGONS, RUNS, CROWD), strict=True):
        annotation["segmentation"] = mask
    dataset.val["annotations"][0]["segmentation"] = [[0, 0, 8, 0, 8, 8]]
    return dataset


def test_segmentations_are_kept_as_they_are(segmented):
    found = segmented.prepare()
    assert [one["segmentation"] for one in found["train"]["annotations"]] == [RUNS, POLYGONS, CROWD]
    assert found["val"]["annotations"][0]["segmentation"] == [[0, 0, 8, 0, 8, 8]]


def test_a_card_without_them_keeps_its_bytes_and_its_identity(segmented):
    segmented.options["segmentations"] = False
    assert "segmentations" not in segmented.card.identity()["data"]
    assert all("segmentation" not in one for one in segmented.prepare()["train"]["annotations"])
    before = (segmented.out / "train.json").read_bytes()
    digest = segmented.card.digest()
    segmented.options["segmentations"] = True
    assert segmented.card.digest() != digest
    segmented.prepare()
    assert (segmented.out / "train.json").read_bytes() != before


def test_they_are_read_back_only_if_asked_for(segmented):
    segmented.prepare()
    assert all(record.segmentations is None for record in load_split(segmented.out, "train").records)
    first, second = load_split(segmented.out, "train", segmentations=True).records
    assert first.segmentations == (RUNS,)  # the crowd region is no ground truth
    (polygons,) = second.segmentations
    assert [polygon.tolist() for polygon in polygons] == POLYGONS
    assert bitmap(RUNS, 30, 40).sum() == 20 and bitmap(polygons, 40, 30).any()


def test_masks_that_were_not_prepared_are_missed_in_one_line(segmented):
    segmented.options["segmentations"] = False
    segmented.prepare()
    with pytest.raises(
        InputError, match=r"train\.json: annotation 1: segmentation: missing; masks need one"
    ) as refusal:
        load_split(segmented.out, "train", segmentations=True)
    assert "\n" not in str(refusal.value)


def test_a_described_folder_says_whether_every_annotation_has_one(segmented, tmp_path):
    folders = ("train.json", "train"), ("val.json", "val")
    segmented.write_source()
    (tmp_path / "card.yaml").write_text(describe_folder(segmented.root, "pets", *folders))
    card = read_model(DatasetCard, tmp_path / "card.yaml")
    assert card.segmentations
    prepare(card, tmp_path / "again")
    assert len(load_split(tmp_path / "again", "val", segmentations=True).records[0].segmentations) == 1
    segmented.train["annotations"][1]["segmentation"] = []
    segmented.write_source()
    assert "segmentations" not in describe_folder(segmented.root, "pets", *folders)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (None, "missing, as in 1 of 3 annotations; 'segmentations: true' in the card asks for all"),
        ([], "missing, as in 1 of 3"),
        ("abc", "polygons or run lengths are expected"),
        ([[1, 2, 3, 4]], r"polygon 0 \(counted from 0\) has 4 coordinates"),
        ([POLYGONS[0], [1, 2, 3, 4, 5, 6, 7]], "polygon 1 .* has 7 coordinates; an even number from 6 on is allowed"),
        ([1, 2, 3, 4, 5, 6], "polygon 0 .* is no list of numbers"),
        ([[1, 2, 3, 4, 5, "6"]], "polygon 0 .* is no list of numbers"),
        ([[1, 2, 3, 4, 5, True]], "polygon 0 .* is no list of numbers"),
        ([[1, 2, 3, 4, float("nan"), 6]], "has the coordinate nan, far outside the image"),
        ([[1, 2, 3, 1e9, 5, 6]], r"has the coordinate 1000000000\.0, far outside"),
        ({"size": [40, 30], "counts": [1200]}, r"size \[40, 30\]; \[height, width\] of the image is \[30, 40\]"),
        ({"counts": [1200]}, "size None"),
        ({"size": [30, 40]}, "counts: a text or a list of whole numbers is expected"),
        ({"size": [30, 40], "counts": [1000.0, 200]}, "counts: a text or a list of whole numbers"),
        ({"size": [30, 40], "counts": [1000, 201]}, "the runs are 1201 pixels long; the image has 1200"),
        ({"size": [30, 40], "counts": [1201, -1]}, "a run of length -1"),
        ({"size": [30, 40], "counts": "04"}, "the runs are 4 pixels long"),
        ({"size": [30, 40], "counts": "héllo"}, "not COCO's text"),
        ({"size": [30, 40], "counts": "`"}, "not COCO's text"),
    ],
)
def test_malformed_segmentations_are_refused_in_one_line(segmented, wrong, expected):
    segmented.train["annotations"][0]["segmentation"] = wrong
    with pytest.raises(InputError, match=f"train.json: annotation 2: segmentation: .*{expected}") as refusal:
        segmented.prepare()
    assert "\n" not in str(refusal.value)
    assert list(segmented.out.parent.iterdir()) == []


def test_json_of_the_source_need_not_have_segmentations_of_boxes_that_are_dropped(segmented):
    """A box without area is dropped with its mask; its mask is checked all the same."""
    segmented.options["boxes_without_area"] = "drop"
    segmented.train["annotations"][0]["bbox"] = [5, 5, 0, 3]
    found = segmented.prepare()
    assert [one["id"] for one in found["train"]["annotations"]] == [1, 5]
    assert json.loads((segmented.out / "lock.json").read_text())["splits"]["train"]["dropped"] == 1


def test_run_lengths_of_every_length(tmp_path):
    random = np.random.default_rng(0)
    for width, height in ((1, 1), (1, 40), (50, 3), (33, 64), (640, 480)):
        for density in (0.0, 0.01, 0.5, 1.0):
            drawn = random.random((height, width)) < density
            counts = encoded_bitmap(drawn)
            assert problem_with({"size": [height, width], "counts": counts}, width, height) is None
            runs = np.concatenate([np.full(length, number % 2) for number, length in enumerate(run_lengths(counts))])
            assert np.array_equal(runs.reshape(width, height).T, drawn)
            assert np.array_equal(bitmap({"size": [height, width], "counts": counts}, width, height), drawn)
