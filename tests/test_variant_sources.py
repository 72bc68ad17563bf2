"""The code that builds a variant: which files it is, and when its checksums change."""

from pathlib import Path

import pytest

from cascadebench.new_variant import new_variant
from cascadebench.variant_catalog import own_variants
from cascadebench.variant_sources import building_digest, variant_digest, variant_sources


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
