"""Arrows go one way: workflows -> adapters -> cascadebench; adapters do not know each other."""

import ast
from pathlib import Path

import pytest

from cascadebench.core.configuration import PROJECT

FRAMEWORKS = {"torch", "torchvision", "mmdet", "mmcv", "mmengine", "detectron2", "fvcore"}
FORBIDDEN = {
    "cascadebench": FRAMEWORKS | {"adapters"},
    "adapters/mmdet": {"detectron2", "adapters.detectron2"},
    "adapters/detectron2": {"mmdet", "mmcv", "mmengine", "adapters.mmdet"},
}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, with its parents."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 2)}


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_layer_imports_nothing_above_it(folder):
    paths = list((PROJECT / folder).rglob("*.py"))
    assert paths
    found = {str(path): sorted(imported(path) & FORBIDDEN[folder]) for path in paths}
    assert {path: names for path, names in found.items() if names} == {}


def test_both_adapters_have_the_same_files():
    """A reader who knows one adapter knows where to look in the other."""
    required = {
        "adapter.py",
        "config.py",
        "controls/__init__.py",
        "data.py",
        "stages.py",
        "training.py",
        "weights.py",
        "cost.py",
    }
    for framework in ("mmdet", "detectron2"):
        folder = PROJECT / "adapters" / framework
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
        assert required <= names, framework


def test_no_name_that_says_nothing():
    names = {
        path.stem for folder in ("cascadebench", "adapters", "workflows") for path in (PROJECT / folder).rglob("*.*")
    }
    assert not names & {"util", "utils", "helper", "helpers", "common", "misc"}
