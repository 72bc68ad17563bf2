"""The code that builds a variant: which files it is, and when its checksums change."""

import shutil
from pathlib import Path

import pytest

from cascadebench.detectors import variant_sources as variant_sources_module
from cascadebench.detectors.cards import ADAPTERS, VARIANTS
from cascadebench.detectors.new_variant import new_variant
from cascadebench.detectors.variant_catalog import own_variants
from cascadebench.detectors.variant_sources import building_digest, variant_digest, variant_sources

FILES = ["card.yaml", "detectron2.py", "mmdet.py"]
CASCADE = ["adapters/variants/cascade_rcnn/detectron2.py", "adapters/variants/cascade_rcnn/mmdet.py"]
MASKS = ["adapters/detectron2/mask_heads.py", "adapters/layers/instance_masks.py", "adapters/mmdet/mask_heads.py"]
"""What no detector without masks is built from."""
MORE = {"fscascade": [*CASCADE, "feature_sharing.py", "reference.py"], "cascade_mask_rcnn": [*MASKS, *CASCADE]}


@pytest.fixture
def folder(tmp_path) -> Path:
    """The folder of a variant from outside the project, with a module that the other two share."""
    new_variant("mine", "cascade_rcnn", tmp_path)
    (tmp_path / "mine" / "layers").mkdir()
    (tmp_path / "mine" / "layers" / "gate.py").write_text("")
    return tmp_path / "mine"


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    """A copy of the adapters whose files may be edited."""
    shutil.copytree(ADAPTERS, tmp_path / "adapters", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(variant_sources_module, "ADAPTERS", tmp_path / "adapters")
    return tmp_path / "adapters"


def edit(path: Path, text: str = "# a remark\n") -> None:
    """Add a line to a module."""
    with path.open("a") as stream:
        stream.write(text)


def building(framework: str, *homes: Path) -> str:
    """What another process would compute."""
    return building_digest.__wrapped__(framework, frozenset(homes))


@pytest.mark.parametrize("name", own_variants())
def test_files_of_a_variant_of_the_project(name):
    assert list(variant_sources(VARIANTS / name)) == sorted([*FILES, *MORE.get(name, [])])


def test_files_of_a_variant_from_outside(folder):
    assert list(variant_sources(folder)) == sorted([*FILES, "layers/gate.py", *CASCADE])


@pytest.mark.parametrize("place", ["card.yaml", "mmdet.py", "layers/gate.py"])
def test_an_edit_in_the_folder_changes_the_checksums(place, folder):
    before = variant_digest(folder), building("mmdet", folder)
    assert (variant_digest(folder), building("mmdet", folder)) == before
    edit(folder / place)
    assert variant_digest(folder) != before[0]
    assert building("mmdet", folder) != before[1]


def test_the_place_of_a_folder_is_no_part_of_its_checksum(folder):
    before = variant_digest(folder), building("mmdet", folder)
    moved = folder.rename(folder.parent / "elsewhere")
    assert (variant_digest(moved), building("mmdet", moved)) == before


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        ("variants/fscascade/feature_sharing.py", {"fscascade"}),
        ("variants/fscascade/card.yaml", {"fscascade"}),
        ("variants/cascade_rcnn/mmdet.py", {"cascade_rcnn", "cascade_mask_rcnn", "fscascade"}),
        ("layers/instance_masks.py", {"cascade_mask_rcnn"}),
        ("variants/integral_loss/detectron2.py", {"integral_loss"}),
        ("mmdet/stages.py", set()),  # the framework base: its revision stands for it
        ("commands.py", set()),
    ],
)
def test_an_edit_changes_the_variants_that_are_built_from_it(place, changed, copied):
    before = {name: variant_digest(copied / "variants" / name) for name in own_variants()}
    assert before == {name: variant_digest(copied / "variants" / name) for name in own_variants()}
    edit(copied / place)
    assert {name for name in before if variant_digest(copied / "variants" / name) != before[name]} == changed


@pytest.mark.parametrize(
    "line",
    [
        "import adapters.layers.added",
        "from adapters.layers import added",
        "from adapters.layers.added import x",
        "def later():\n    from adapters.layers.added import x",
        "from ...layers.added import x",
        "from adapters.variants.faster_rcnn.between import x",
    ],
)
def test_every_way_of_importing_counts(line, copied):
    home = copied / "variants" / "fscascade"
    (copied / "layers" / "added.py").write_text("x = 1\n")
    (copied / "variants" / "faster_rcnn" / "between.py").write_text("from adapters.layers.added import x\n")
    assert "adapters/layers/added.py" not in variant_sources(home)
    edit(home / "mmdet.py", f"{line}\n")
    assert "adapters/layers/added.py" in variant_sources(home)


@pytest.mark.parametrize("line", ["def configure(:", "from ..outside import x"])
def test_a_module_that_cannot_be_imported_is_left_to_the_inspection(line, folder):
    (folder.parent / "outside.py").write_text("x = 1\n")
    edit(folder / "mmdet.py", f"{line}\n")
    assert {*FILES, "layers/gate.py"} <= set(variant_sources(folder)) <= {*FILES, "layers/gate.py", *CASCADE}


@pytest.mark.parametrize(
    ("place", "framework"),
    [
        ("commands.py", None),
        ("layers/instance_masks.py", None),
        ("mmdet/controls/heads.py", "mmdet"),
        ("variants/cascade_rcnn/card.yaml", None),
        ("variants/cascade_rcnn/mmdet.py", None),  # the other framework's module might import it
        ("variants/fscascade/feature_sharing.py", None),
        ("variants/iterative_bbox/mmdet.py", "nobody"),
    ],
)
def test_an_edit_has_the_runs_inspected_that_it_may_change(place, framework, copied):
    homes = [copied / "variants" / name for name in ("faster_rcnn", "fscascade", "cascade_rcnn")]
    before = {name: building(name, *homes) for name in ("mmdet", "detectron2")}
    assert before["mmdet"] != before["detectron2"]
    edit(copied / place)
    changed = {name for name in before if building(name, *homes) != before[name]}
    assert changed == ({framework} & set(before) if framework else set(before))
