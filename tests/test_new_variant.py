"""The skeleton of a new variant, and variants from outside the project."""

from pathlib import Path

import pytest

from cascadebench.errors import InputError
from cascadebench.new_variant import new_variant
from cascadebench.study import load_study
from cascadebench.variant_catalog import find_variant, own_variants, variant_files

TRAINED = [name for name in own_variants() if not find_variant(name, "test").card.trained_as]
STUDY = """
name: mine
title: Mine
dataset: shapes
protocol: tiny
frameworks: [mmdet, detectron2]
backbones: [resnet18_narrow]
variant_folders: [variants]
variants: [{variant: faster_rcnn}, {variant: mine}]
baseline: Faster R-CNN FPN
seeds: [0]
"""


@pytest.mark.parametrize("base", TRAINED)
def test_a_skeleton_is_the_variant_that_it_starts_from(base, tmp_path):
    paths = new_variant("mine", base, tmp_path)
    assert [path.name for path in paths] == ["card.yaml", "mmdet.py", "detectron2.py"]
    card, original = find_variant("mine", "test", [tmp_path]).card, find_variant(base, "test").card
    same = ("options", "stages", "classifiers", "heads", "headline", "treatment", "values", "frameworks", "readings")
    for key in same:
        assert getattr(card, key) == getattr(original, key), key
    for path in paths[1:]:
        assert f"{base}.configure(" in path.read_text()
        compile(path.read_text(), str(path), "exec")


@pytest.mark.parametrize(
    ("name", "base", "message"),
    [
        ("Mine", "cascade_rcnn", "name 'Mine': lower-case letters"),
        ("../mine", "cascade_rcnn", "lower-case letters"),
        ("cascade_rcnn", "faster_rcnn", "name 'cascade_rcnn' is taken"),
        ("mine", "nothing", "--from 'nothing': unknown variant"),
        ("mine", "iterative_bbox", "it has no training of its own"),
    ],
)
def test_what_new_variant_refuses(name, base, message, tmp_path):
    with pytest.raises(InputError, match=message):
        new_variant(name, base, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    new_variant("mine", "cascade_rcnn", tmp_path)
    (tmp_path / "mine" / "card.yaml").unlink()
    kept = (tmp_path / "mine" / "mmdet.py").read_bytes()
    with pytest.raises(InputError, match="is there already"):
        new_variant("mine", "faster_rcnn", tmp_path)
    assert (tmp_path / "mine" / "mmdet.py").read_bytes() == kept


@pytest.fixture
def outside(tmp_path) -> Path:
    """A study with a variant of its own, in a folder."""
    new_variant("mine", "cascade_rcnn", tmp_path / "variants")
    (tmp_path / "mine.yaml").write_text(STUDY)
    return tmp_path


def test_a_study_finds_a_variant_in_its_folder(outside):
    run = load_study(str(outside / "mine.yaml")).runs[-1].run
    assert run.variant.folder == str(outside / "variants" / "mine")
    assert "folder" not in run.identity()["variant"]


def broken_card(folder: Path) -> None:
    (folder / "variants/mine/card.yaml").write_text("name: mine\n")


def other_name(folder: Path) -> None:
    path = folder / "variants/mine/card.yaml"
    path.write_text(path.read_text().replace("name: mine", "name: yours", 1))


def unknown_control(folder: Path) -> None:
    path = folder / "variants/mine/card.yaml"
    path.write_text(path.read_text().replace("heads.stages", "heads.stagse", 1))


def value_of_no_treatment(folder: Path) -> None:
    path = folder / "variants/mine/card.yaml"
    path.write_text(path.read_text() + "values: {rpn.nms_iou: 0.5}\n")


def no_module(folder: Path) -> None:
    (folder / "variants/mine/mmdet.py").unlink()


def no_variant(folder: Path) -> None:
    (folder / "variants/mine").rename(folder / "elsewhere")


def same_name_as_ours(folder: Path) -> None:
    (folder / "variants/mine").rename(folder / "variants/cascade_rcnn")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken_card, "card.yaml: title: missing"),
        (other_name, "name: 'yours' must be 'mine'"),
        (unknown_control, "unknown control 'heads.stagse'; did you mean heads.stages"),
        (value_of_no_treatment, "values: 'rpn.nms_iou' is no control of the card's treatment"),
        (no_module, "frameworks: 'mmdet' needs the module"),
        (no_variant, "no variant: a folder with card.yaml"),
        (same_name_as_ours, "the variant 'cascade_rcnn' exists already"),
    ],
)
def test_what_does_not_load_is_said(outside, change, message):
    change(outside)
    with pytest.raises(InputError, match=message):
        load_study(str(outside / "mine.yaml"))


def test_a_package_offers_its_variant_by_an_entry_point(tmp_path, monkeypatch):
    new_variant("packaged", "cascade_rcnn", tmp_path)
    (tmp_path / "packaged" / "__init__.py").write_text("")
    information = tmp_path / "packaged-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: packaged\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[cascadebench.variants]\npackaged = packaged\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert variant_files()["packaged"] == tmp_path / "packaged" / "card.yaml"
    (information / "entry_points.txt").write_text("[cascadebench.variants]\npackaged = not_there\n")
    with pytest.raises(InputError, match=r"entry point packaged in cascadebench\.variants: 'not_there'"):
        variant_files()
