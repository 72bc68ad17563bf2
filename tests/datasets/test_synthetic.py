"""The drawn dataset: the same bytes every time, boxes tight on what is visible, every class and shape in it."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from refusals import refused

from cascadebench.core.files import sha256_of
from cascadebench.datasets.card import SPLITS, DatasetCard, Folder, Split, Synthetic, load_dataset_card
from cascadebench.datasets.masks import bitmap, problem_with
from cascadebench.datasets.synthetic import REVISION, draw, draw_image
from cascadebench.datasets.synthetic_shapes import LEAST_VISIBLE, SUPERSAMPLING

CATEGORIES = ("disc", "square", "triangle", "ring", "star")


def card(categories=CATEGORIES, **changes):
    data = {"revision": REVISION, "seed": 0, "image_size": 128, "train_images": 5, "val_images": 3} | changes
    return DatasetCard(name="drawn", title="", categories=categories, data=Synthetic(kind="synthetic", **data))


def digests(folder, pattern="*.*"):
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob(pattern))}


@pytest.fixture(scope="module")
def scenes():
    """Sixty drawn images: the picture as an array, and its shapes."""
    drawn = (draw_image(np.random.default_rng([7, index]), 128, CATEGORIES) for index in range(60))
    return [(np.asarray(picture), shapes) for picture, shapes in drawn]


def visible_masks(shapes):
    """Masks of what is visible, bool [height, width], found by painting labels from back to front."""
    canvas = np.full(np.asarray(shapes[0].mask).shape, -1)
    for number, shape in reversed(list(enumerate(shapes))):
        canvas[np.asarray(shape.mask) > 0] = number
    return [canvas == number for number in range(len(shapes))]


def test_segmentations_are_what_is_visible(tmp_path, scenes):
    for _, shapes in scenes:
        for shape, mask in zip(shapes, visible_masks(shapes), strict=True):
            height, width = (side // SUPERSAMPLING for side in mask.shape)
            share = mask.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING).mean(axis=(1, 3))
            assert np.array_equal(shape.visible, share >= 0.5)
    draw(card(), tmp_path)
    content = json.loads((tmp_path / "train.json").read_text())
    size_of = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for annotation in content["annotations"]:
        assert problem_with(annotation["segmentation"], *size_of[annotation["image_id"]]) is None
        drawn = bitmap(annotation["segmentation"], *size_of[annotation["image_id"]])
        x, y, width, height = annotation["bbox"]
        rows, columns = np.nonzero(drawn)
        # Pixels in which the box has less than half its depth may be missing at each side.
        assert x - 0.5 <= columns.min() <= x + 2 and x + width - 2 <= columns.max() + 1 <= x + width + 0.5
        assert y - 0.5 <= rows.min() <= y + 2 and y + height - 2 <= rows.max() + 1 <= y + height + 0.5
        assert drawn.sum() == pytest.approx(annotation["area"], rel=0.1)


def test_same_card_gives_same_bytes_and_another_seed_other_pictures(tmp_path):
    draw(card(), tmp_path / "first")
    draw(card(), tmp_path / "second")
    first = digests(tmp_path / "first")
    assert first == digests(tmp_path / "second")
    assert len(first) == len(set(first.values())) == 5 + 3 + 2  # no two pictures alike, across the splits too
    draw(card(seed=1), tmp_path / "other seed")
    assert not set(first.values()) & set(digests(tmp_path / "other seed").values())


def test_more_images_do_not_change_the_first(tmp_path):
    draw(card(), tmp_path / "few")
    draw(card(train_images=7), tmp_path / "more")
    few, more = digests(tmp_path / "few", "*.png"), digests(tmp_path / "more", "*.png")
    assert few.items() < more.items()
    content = [json.loads((tmp_path / name / "train.json").read_text()) for name in ("few", "more")]
    boxes = len(content[0]["annotations"])
    assert content[0]["annotations"] == content[1]["annotations"][:boxes]


def test_annotations_describe_the_pictures(tmp_path):
    draw(card(categories=("star", "disc")), tmp_path)
    for split, count in zip(SPLITS, (5, 3), strict=True):
        content = json.loads((tmp_path / f"{split}.json").read_text())
        assert content["categories"] == [{"id": 1, "name": "star"}, {"id": 2, "name": "disc"}]
        assert [image["file_name"] for image in content["images"]] == [f"{n + 1:06d}.png" for n in range(count)]
        assert [annotation["id"] for annotation in content["annotations"]] == [
            number + 1 for number in range(len(content["annotations"]))
        ]
        sizes = {}
        for image in content["images"]:
            with Image.open(tmp_path / "images" / split / image["file_name"]) as picture:
                assert (picture.mode, picture.size) == ("RGB", (image["width"], image["height"]))
            sizes[image["id"]] = picture.size
        assert {annotation["image_id"] for annotation in content["annotations"]} == set(sizes)
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            assert x >= 0 and y >= 0 and x + width <= sizes[annotation["image_id"]][0]
            assert y + height <= sizes[annotation["image_id"]][1]
            assert 0 < annotation["area"] <= width * height and annotation["iscrowd"] == 0


def test_boxes_and_areas_are_those_of_the_visible_part(scenes):
    for _, shapes in scenes:
        for shape, visible in zip(shapes, visible_masks(shapes), strict=True):
            rows, columns = np.nonzero(visible)
            corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SUPERSAMPLING
            x, y, width, height = shape.box
            assert (x, y, x + width, y + height) == pytest.approx(tuple(corners), abs=1e-9)
            assert shape.area == pytest.approx(len(rows) / SUPERSAMPLING**2)


def test_shapes_are_occluded_but_never_hidden(scenes):
    shares = []
    for _, shapes in scenes:
        for shape, visible in zip(shapes, visible_masks(shapes), strict=True):
            shares.append(np.count_nonzero(visible) / np.count_nonzero(np.asarray(shape.mask)))
    # A rasterised outline is slightly larger than its polygon, hence the margin below the limit.
    assert min(shares) > 0.8 * LEAST_VISIBLE
    assert 0.1 < np.mean(np.array(shares) < 0.9) < 0.5


def test_shapes_differ_from_what_surrounds_them(scenes):
    """The border is there to be learnt: inside and outside of a box's shape differ in colour, for most by little."""
    contrasts = []
    for picture, shapes in scenes:
        everything = np.max([np.asarray(shape.mask.reduce(SUPERSAMPLING)) for shape in shapes], axis=0)
        for shape, visible in zip(shapes, visible_masks(shapes), strict=True):
            share = np.asarray(Image.fromarray(visible.astype(np.uint8) * 255).reduce(SUPERSAMPLING))
            x, y, width, height = (round(value) for value in shape.box)
            near = np.zeros(share.shape, dtype=bool)
            near[max(y - 3, 0) : y + height + 3, max(x - 3, 0) : x + width + 3] = True
            inside, outside = picture[share == 255], picture[near & (everything == 0)]
            if len(inside) and len(outside):
                contrasts.append(np.linalg.norm(inside.mean(axis=0) - outside.mean(axis=0)))
    assert np.quantile(contrasts, 0.05) > 15
    assert np.quantile(contrasts, 0.25) < 100


def test_sizes_shapes_and_counts_vary(scenes):
    assert {picture.shape for picture, _ in scenes} == {(128, 128, 3), (96, 128, 3), (128, 96, 3)}
    assert {len(shapes) for _, shapes in scenes} == set(range(1, 7))
    boxes = np.array([shape.box[2:] for _, shapes in scenes for shape in shapes])
    assert boxes.min() >= 6 and np.quantile(boxes, 0.05) < 18 and np.quantile(boxes, 0.95) > 45
    ratios = boxes.max(axis=1) / boxes.min(axis=1)
    assert np.mean(ratios > 1.3) > 0.2
    counts = Counter(shape.label for _, shapes in scenes for shape in shapes)
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert max(counts.values()) < 4 * min(counts.values())


def test_first_picture_of_the_embedded_dataset_is_pinned():
    """A change here needs another REVISION: the same card would mean another dataset."""
    shapes = load_dataset_card("shapes")
    picture, found = draw_image(np.random.default_rng([0, 0, 0]), shapes.data.image_size, shapes.categories)
    assert shapes.data.revision == REVISION == 2
    assert picture.size == (96, 128)
    assert [(shapes.categories[shape.label], shape.box) for shape in found] == [
        ("disc", (73.75, 69.25, 18.0, 13.5)),
        ("ring", (0.0, 84.75, 21.25, 39.25)),
        ("disc", (27.75, 18.75, 47.5, 45.5)),
        ("square", (50.75, 68.25, 19.25, 17.5)),
    ]


FOLDER = Folder(root=("x",), **dict.fromkeys(SPLITS, Split(annotations="a", images="b")))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (card(revision=1), "'drawn': data.revision: 1 cannot be drawn; allowed: 2"),
        (card(categories=("disc", "hexagon")), "no outline for 'hexagon'; allowed: disc, square, triangle, ring, star"),
        (card().model_copy(update={"data": FOLDER}), "data.kind: 'synthetic' is needed to draw it, found 'folder'"),
    ],
)
def test_cards_that_cannot_be_drawn_are_refused_and_nothing_is_written(tmp_path, wrong, expected):
    with refused(expected):
        draw(wrong, tmp_path / "drawn")
    assert not (tmp_path / "drawn").exists()
