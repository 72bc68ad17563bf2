"""The skeleton of a new variant, and variants from outside the project."""

import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
from small_studies import changed_study
from typer.testing import CliRunner

from cascadebench.cli.main import app
from cascadebench.core.configuration import PROJECT
from cascadebench.core.errors import InputError
from cascadebench.detectors import new_variant as module
from cascadebench.detectors.cards import VariantCard
from cascadebench.detectors.new_variant import new_variant
from cascadebench.detectors.variant_catalog import find_variant, own_variants, variant_files
from cascadebench.study_loading import load_study

TRAINED = [name for name in own_variants() if not find_variant(name, "test").card.trained_as]
PAGE = (PROJECT / "docs" / "adding-a-variant.md").read_text(encoding="utf-8")


def study_of(folder: Path, variant: str, options: dict | None = None, **more) -> str:
    """Write a study of the baseline and a variant."""
    variants = [{"variant": "faster_rcnn"}, {"variant": variant, "options": options or {}}]
    return changed_study(folder, "mine", variants=variants, proposal_swaps=[], **more)


@pytest.mark.parametrize("base", TRAINED)
def test_a_skeleton_is_the_variant_that_it_starts_from(base, tmp_path):
    paths = new_variant("mine", base, tmp_path)
    assert [path.name for path in paths] == ["card.yaml", "mmdet.py", "detectron2.py"]
    card, original = find_variant("mine", "test", [tmp_path]).card, find_variant(base, "test").card
    own = {"name", "title", "description", "revision", "trained_as", "sources", "readings"}
    for key in VariantCard.model_fields.keys() - own:
        assert getattr(card, key) == getattr(original, key), key
    assert card.sources == card.readings == ()  # those of the other detector are not this one's
    for path in paths[1:]:
        assert f"{base}.configure(" in path.read_text()
        compile(path.read_text(), str(path), "exec")


def test_values_of_the_card_are_kept(tmp_path, monkeypatch):
    original = find_variant("cascade_rcnn", "test")
    card = original.card.model_validate(original.card.model_dump() | {"values": {"heads.iou_threshold": [0.5, 0.6]}})
    monkeypatch.setattr(module, "find_variant", lambda *_given: replace(original, card=card))
    new_variant("mine", "cascade_rcnn", tmp_path)
    assert find_variant("mine", "test", [tmp_path]).card.values == {"heads.iou_threshold": [0.5, 0.6]}


def test_the_command_says_when_it_writes_into_the_project(tmp_path, monkeypatch):
    runner = CliRunner()
    assert "--from" in runner.invoke(app, ["new-variant", "mine"]).output
    words = ["new-variant", "mine", "--from", "cascade_rcnn"]
    outside = runner.invoke(app, [*words, "--folder", str(tmp_path / "outside")])
    assert (outside.exit_code, outside.stderr) == (0, "")
    monkeypatch.setattr(module, "VARIANTS", tmp_path / "variants")
    inside = runner.invoke(app, words)
    assert inside.stdout.splitlines()[0] == str(tmp_path / "variants" / "mine" / "card.yaml")
    assert f"written into the project itself, {PROJECT}" in inside.stderr


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
    study_of(tmp_path, "mine", variant_folders=["variants"])
    return tmp_path


def test_a_study_finds_a_variant_in_its_folder(outside):
    run = load_study(str(outside / "mine.yaml")).runs[-1].run
    assert run.variant.folder == str(outside / "variants" / "mine")
    assert "folder" not in run.identity()["variant"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: "name: mine\n", "card.yaml: title: missing"),
        (lambda card: card.replace("name: mine", "name: yours", 1), "name: 'yours' must be 'mine'"),
        (
            lambda card: card.replace("heads.stages", "heads.stagse", 1),
            "unknown control 'heads.stagse'; did you mean heads.stages",
        ),
        (
            lambda card: card + "values: {rpn.nms_iou: 0.5}\n",
            "values: 'rpn.nms_iou' is no control of the card's treatment",
        ),
        (
            lambda card: card.replace("  stage_loss:\n", "  stage_loss:\n    needs: {nothing: 1}\n", 1),
            "card.yaml: .*options.stage_loss.needs: there is no option 'nothing'",
        ),
    ],
    ids=["broken", "other name", "unknown control", "value of no treatment", "needs nothing there"],
)
def test_a_card_that_does_not_load_is_said(outside, change, message):
    path = outside / "variants/mine/card.yaml"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message):
        load_study(str(outside / "mine.yaml"))


@pytest.mark.parametrize(
    ("moved", "to", "message"),
    [
        ("mine/mmdet.py", "mmdet.py", "frameworks: 'mmdet' needs the module"),
        ("mine", "../elsewhere", "no variant: a folder with card.yaml"),
        ("mine", "cascade_rcnn", "the variant 'cascade_rcnn' exists already"),
    ],
    ids=["no module", "no variant", "same name as ours"],
)
def test_a_folder_that_is_not_right_is_said(outside, moved, to, message):
    (outside / "variants" / moved).rename(outside / "variants" / to)
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
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("1 / 0\n")
    for value, complaint in (
        ("not_there", "'not_there' is no installed package"),
        ("not_there.inside", "'not_there.inside' cannot be imported: ModuleNotFoundError: No module named 'not_there'"),
        ("broken.inside", "'broken.inside' cannot be imported: ZeroDivisionError: division by zero"),
    ):
        (information / "entry_points.txt").write_text(f"[cascadebench.variants]\npackaged = {value}\n")
        with pytest.raises(InputError, match=f"^entry point packaged in cascadebench.variants: {complaint}$"):
            variant_files()


def test_a_wheel_of_the_documented_package_holds_all_of_a_variant(tmp_path, monkeypatch):
    """The two tables of the page are all that a package needs beside what every package has."""
    (settings,) = re.findall(r"## As a package\n.*?```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    source, installed = tmp_path / "source", tmp_path / "installed"
    new_variant("gentle_cascade", "cascade_rcnn", source)
    (source / "gentle_cascade").rename(source / "gentle_cascade_package")
    (source / "gentle_cascade_package" / "__init__.py").write_text("")
    build = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    (source / "pyproject.toml").write_text(f'{build}[project]\nname = "gentle"\nversion = "1.0"\n{settings}')
    words = ["wheel", "--quiet", "--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", *words, str(source)], check=True)
    with ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    monkeypatch.syspath_prepend(str(installed))
    run = load_study(study_of(tmp_path, "gentle_cascade")).runs[-1].run
    assert run.variant.folder == str(installed / "gentle_cascade_package")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": "shared", "double_head": True}, r"double_head: true needs heads: \"unshared\"; heads is \"shared\""),
        ({"double_head": True}, None),
        ({"heads": "shared", "double_head": False}, None),
        ({"stages": 2, "classifiers": 3}, r"options\.classifiers: 3: at most one for each of 2 stages"),
    ],
)
def test_options_that_need_each_other(options, message, tmp_path):
    path = study_of(tmp_path, "decoupled_rcnn", options)
    with pytest.raises(InputError, match=message) if message else nullcontext():
        load_study(path)
