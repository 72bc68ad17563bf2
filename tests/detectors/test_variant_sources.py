"""The code that builds a variant: which files it is, and when its checksums change."""

import shutil
from pathlib import Path

import pytest

from cascadebench.detectors import variant_sources as variant_sources_module
from cascadebench.detectors.new_variant import new_variant
from cascadebench.detectors.variant_catalog import own_variants
from cascadebench.detectors.variant_sources import building_digest, variant_digest, variant_sources


@pytest.fixture
def folder(tmp_path) -> Path:
    """A variant's folder with a module that the other two share."""
    new_variant("mine", "cascade_rcnn", tmp_path)
    (tmp_path / "mine" / "layers").mkdir()
    (tmp_path / "mine" / "layers" / "gate.py").write_text("")
    return tmp_path / "mine"


def test_files_of_a_variant(folder):
    assert list(variant_sources("mine", str(folder))) == ["card.yaml", "detectron2.py", "layers/gate.py", "mmdet.py"]
    for name in own_variants():
        places = [f"detectron2/variants/{name}.py", f"mmdet/variants/{name}.py", f"variants/{name}.yaml"]
        assert list(variant_sources(name, None)) == places


@pytest.mark.parametrize("place", ["card.yaml", "mmdet.py", "layers/gate.py"])
def test_an_edit_changes_the_checksums(place, folder):
    def digests():
        building_digest.cache_clear()  # of another process
        return variant_digest("mine", str(folder)), building_digest("mmdet", str(folder))

    before = digests()
    assert digests() == before
    with (folder / place).open("a") as stream:
        stream.write("# a word\n")
    after = digests()
    assert after[0] != before[0] and after[1] != before[1]


def test_the_place_of_a_folder_is_no_part_of_its_checksum(folder):
    before = variant_digest("mine", str(folder))
    moved = folder.rename(folder.parent / "elsewhere")
    assert variant_digest("mine", str(moved)) == before


def test_adapters_have_checksums_of_their_own():
    assert building_digest("mmdet", None) != building_digest("detectron2", None)


@pytest.mark.parametrize("place", ["commands.py", "layers/masks.py", "mmdet/controls/heads.py"])
def test_an_edit_anywhere_in_an_adapter_changes_its_checksum(place, tmp_path, monkeypatch):
    shutil.copytree(variant_sources_module.ADAPTERS, tmp_path / "adapters")
    monkeypatch.setattr(variant_sources_module, "ADAPTERS", tmp_path / "adapters")
    monkeypatch.setattr(variant_sources_module, "building_digest", building_digest.__wrapped__)
    before = {name: variant_sources_module.building_digest(name, None) for name in ("mmdet", "detectron2")}
    with (tmp_path / "adapters" / place).open("a") as stream:
        stream.write("# a word\n")
    after = {name: variant_sources_module.building_digest(name, None) for name in ("mmdet", "detectron2")}
    assert after["mmdet"] != before["mmdet"]
    assert (after["detectron2"] == before["detectron2"]) == place.startswith("mmdet/")
