"""Modules of variants from outside the project: how they are found and imported, and what is said if they are not."""

import re

import pytest

from adapters.command_line import main
from adapters.detector.variant_module import variant_module
from cascadebench.core.errors import InputError
from cascadebench.detectors.new_variant import new_variant
from cascadebench.study.run import Run

CONFIGURE = "def configure(config, run):\n    pass\n"


@pytest.fixture
def run(small_run, tmp_path):
    """Return a function that writes a variant's module and others beside it, and gives its run."""

    def make(text: str, folder: str = "mine", **others: str) -> Run:
        new_variant("mine", "cascade_rcnn", tmp_path / folder)
        for name, content in {"mmdet": text, **others}.items():
            (tmp_path / folder / "mine" / f"{name}.py").write_text(content)
        plain = small_run("mmdet", "cascade_rcnn")
        there = {"name": "mine", "folder": str(tmp_path / folder / "mine")}
        return plain.model_copy(update={"variant": plain.variant.model_copy(update=there)})

    return make


def test_modules_of_a_folder_share_code(run):
    one = run("from .parts import WORD\nfrom . import parts\n" + CONFIGURE, parts="WORD = 'shared'\n")
    module = variant_module(one)
    assert module.WORD == module.parts.WORD == "shared"
    assert variant_module(one) is module


def test_two_folders_may_have_a_variant_of_one_name(run):
    one, other = (run(f"WHERE = {folder!r}\n{CONFIGURE}", folder) for folder in ("here", "there"))
    assert [variant_module(each).WHERE for each in (one, other, one)] == ["here", "there", "here"]


@pytest.mark.parametrize(
    ("text", "parts", "place", "message"),
    [
        ("\ndef configure(:\n", "", "mmdet.py:2", "SyntaxError: invalid syntax"),
        ("import re\nre.nothing\n", "", "mmdet.py:2", "AttributeError: module 're' has no attribute 'nothing'"),
        ("\n\nimport nothing_there\n", "", "mmdet.py:3", "ModuleNotFoundError: No module named 'nothing_there'"),
        ("import re\nre.compile('(')\n", "", "mmdet.py:2", "error: missing ), unterminated subpattern at position 0"),
        ("from . import parts\n", "\n\n1 / 0\n", "parts.py:3", "ZeroDivisionError: division by zero"),
        ("", "", "mmdet.py", "a function configure(config, run) is expected"),
    ],
    ids=["syntax", "attribute", "import", "below", "shared part", "no function"],
)
def test_what_does_not_load_is_one_line_with_its_place(text, parts, place, message, run, tmp_path):
    one, folder = run(text, parts=parts), tmp_path / "mine" / "mine"
    for _ in range(2):  # also when it is asked for again
        with pytest.raises(InputError, match=f"^{re.escape(f'{folder / place}: {message}')}$"):
            variant_module(one)


def test_an_inspection_of_several_runs_goes_on_after_one_that_does_not_load(run, small_run, tmp_path, capsys):
    pytest.importorskip("mmdet")
    broken, plain = run("1 / 0\n"), small_run("mmdet", "faster_rcnn")
    runs = [broken, broken.model_copy(update={"seed": 1}), plain]
    for one in runs:
        one.write(tmp_path / one.id / "run.yaml")
    paths = [str(tmp_path / one.id / "run.yaml") for one in runs]
    assert main(["mmdet", "inspect", "--run", *paths, "--out", str(tmp_path), "--each"]) == 2
    assert [(tmp_path / one.id / "controls.json").exists() for one in runs] == [False, False, True]
    assert capsys.readouterr().err.count("mmdet.py:1: ZeroDivisionError: division by zero") == 1
