"""Data stands for a source's dataset by its content: categories, image ids, ground truth; never by its name."""

import pytest

from cascadebench.datasets.card import load_dataset_card
from cascadebench.datasets.content import categories_digest
from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.comparability import other_settings, reasons_not_comparable
from cascadebench.evidence.source_data import data_differences, not_compared, source_datasets
from cascadebench.study_loading import load_study


def lock_of(name, **train):
    """A lock of data whose content is that of a source's dataset, with some values of its training split changed."""
    there, card = source_datasets()[name], load_dataset_card(name)
    splits = {split: getattr(there, split).model_dump() for split in ("train", "val")}
    for split in splits.values():  # what is not known may be anything
        split.update({key: value or "f" * 64 for key, value in split.items() if key.endswith("sha256")})
        split["annotations"], split["dropped"] = (split["annotations"] or 9) - 2, 2
    splits["train"] |= train
    categories = [{"id": 2 * place, "name": category} for place, category in enumerate(card.categories)]
    return {"dataset": "any", "categories": categories, "splits": splits}


@pytest.mark.parametrize("name", ["coco2017", "voc0712"])
def test_the_cards_of_the_project_are_the_datasets_of_the_sources(name):
    there, card = source_datasets()[name], load_dataset_card(name)
    assert categories_digest(card.categories) == there.categories_sha256
    for split in ("train", "val"):
        declared, known = getattr(card.data, split), getattr(there, split)
        if name == "coco2017":
            assert (declared.image_count, declared.annotation_count) == (known.images, known.annotations)
        else:
            assert sum(part.image_count for part in declared) == known.images


@pytest.mark.parametrize("name", ["coco2017", "voc0712"])
def test_the_same_content_under_another_name_is_the_dataset(name):
    assert data_differences("my copy", lock_of(name), name) == []
    assert "not known of" in not_compared(lock_of(name), name)


OTHER = {
    "fewer images": ({"images": 12}, "data: images of train: 12 here, 16,551 in voc0712"),
    "other ids": (
        {"image_ids_sha256": "0" * 64},
        "data: the image ids (SHA-256) of train: 000000000000 here,",
    ),
    "not recorded": (
        {"image_ids_sha256": None},
        "data: the image ids (SHA-256) of train: not recorded here,",
    ),
}


@pytest.mark.parametrize("what", OTHER)
def test_other_content_under_the_same_name_is_not(what):
    change, said = OTHER[what]
    (difference,) = data_differences("voc0712", lock_of("voc0712", **change), "voc0712")
    assert difference.startswith(said)


def test_other_ground_truth_of_the_evaluation_is_not():
    lock = lock_of("voc0712")
    lock["splits"]["val"]["annotations_sha256"] = "0" * 64
    (difference,) = data_differences("voc0712", lock, "voc0712")
    assert difference == "data: the ground truth (SHA-256) of val: 000000000000 here, ed2a315b5986 in voc0712"


def test_other_categories_are_told_whatever_the_name():
    lock = lock_of("coco2017")
    lock["categories"][0]["name"] = "Person"
    assert data_differences("coco2017", lock, "coco2017") == [
        "data: coco2017 here has other categories than coco2017 in the source"
    ]
    assert data_differences("mine", lock, "coco2017") == ["data: mine here, coco2017 in the source"]
    assert data_differences("mine", {}, "coco2017") == ["data: mine here, coco2017 in the source"]


def test_without_a_lock_names_are_compared_and_that_is_said():
    assert data_differences("coco2017", None, "coco2017") == []
    assert data_differences("mine", None, "coco2017") == ["data: mine here, coco2017 in the source"]
    assert not_compared(None, "coco2017") == "data: taken for coco2017 by its name alone"


def test_a_verdict_goes_by_the_content():
    claim, run = load_claims()["cascade-loses-low-iou"], load_study("coco_1x").runs[0].run
    mine = run.model_copy(update={"dataset": run.dataset.model_copy(update={"name": "mine"})})

    def of_data(one, lock):
        return [reason for reason in reasons_not_comparable(claim, [one], None, lock) if reason.startswith("data: ")]

    same, other = lock_of("coco2017"), lock_of("coco2017", images=118286)
    assert of_data(run, same) == of_data(mine, same) == of_data(run, None) == []
    assert of_data(run, other) == of_data(mine, other) == ["data: images of train: 118,286 here, 118,287 in coco2017"]
    assert of_data(mine, None) == []  # the card says the same data
    assert any(note.startswith("data: not known of coco2017") for note in other_settings(claim, [mine], same))
    assert not other_settings(claim, [run], other)
