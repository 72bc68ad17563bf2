"""Arrows go one way, folders and modules stay small, and the two adapters have the same files.

``cascadebench`` is a stack of packages, each of which imports from those below it alone. ``adapters`` imports
``cascadebench``; the two frameworks' folders do not know each other, and what both need lies beside them. What
``from cascadebench import evaluate, compare`` brings does without all of that.
"""

import ast
import json
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cascadebench
from cascadebench.core.configuration import PROJECT
from cascadebench.metrics.coco.evaluate_files import evaluate_files
from cascadebench.uncertainty.compare_files import compare_files

FRAMEWORKS = {"torch", "torchvision", "mmdet", "mmcv", "mmengine", "detectron2", "fvcore"}
FORBIDDEN = {
    "cascadebench": FRAMEWORKS | {"adapters"},
    "adapters/mmdet": {"detectron2", "adapters.detectron2"},
    "adapters/detectron2": {"mmdet", "mmcv", "mmengine", "adapters.mmdet"},
}
STACK = (
    {"core"},
    {"results"},
    {"datasets", "detectors"},
    {"metrics", "study"},
    {"determinism", "diagnostics", "execution", "imported"},
    {"uncertainty"},
    {"controls", "examples", "tables"},
    {"evidence"},
    {"study_loading"},
    {"report"},
    {"export"},
    {"cli"},
    {"__main__"},
)
"""Packages and modules of ``cascadebench`` from the bottom; neighbours in a set do not import each other."""
MOST_LINES, MOST_MODULES = 300, 15


def modules(folder: str) -> dict[str, Path]:
    """Files of a folder's modules by their dotted names."""
    paths = (PROJECT / folder).rglob("*.py")
    names = {path: ".".join(path.relative_to(PROJECT).with_suffix("").parts) for path in sorted(paths)}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


@cache
def imported(path: Path) -> frozenset[str]:
    """Every name that a file imports, also inside functions and for type checkers, with its parents."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 2))


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_layer_imports_nothing_above_it(folder):
    paths = list((PROJECT / folder).rglob("*.py"))
    assert paths
    arrows = {str(path): sorted(imported(path) & FORBIDDEN[folder]) for path in paths}
    assert {path: names for path, names in arrows.items() if names} == {}


def test_packages_import_from_below_alone():
    floors = {name: number for number, names in enumerate(STACK) for name in names}
    upward = []
    for name, path in modules("cascadebench").items():
        if name == "cascadebench":
            continue  # its face loads the evaluator when it is asked for
        package = name.split(".")[1]
        assert package in floors, f"{name}: where in the stack is it?"
        others = {target.split(".")[1] for target in imported(path) if target.startswith("cascadebench.")} - {package}
        upward += [f"{name} -> {other}" for other in others & set(floors) if floors[other] >= floors[package]]
    assert upward == []


@pytest.mark.parametrize("folder", ["cascadebench", "adapters"])
def test_no_import_goes_round_in_a_circle(folder):
    known = modules(folder)
    arrows = {name: (imported(path) & set(known)) - {name} for name, path in known.items()}
    # A module is not an arrow of its own packages.
    arrows = {name: {other for other in others if not name.startswith(f"{other}.")} for name, others in arrows.items()}
    # A package's __init__ arrows count as its face's, which its modules do not import.
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_modules_and_folders_stay_small():
    long, crowded = [], []
    for folder in ("cascadebench", "adapters"):
        for path in (PROJECT / folder).rglob("*.py"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > MOST_LINES:
                long.append(f"{path}: {lines} lines")
        for place in [PROJECT / folder, *(path for path in (PROJECT / folder).rglob("*") if path.is_dir())]:
            own = [path for path in place.glob("*.py") if path.name != "__init__.py"]
            if len(own) > MOST_MODULES:
                crowded.append(f"{place}: {len(own)} modules")
    assert (long, crowded) == ([], [])


def test_both_adapters_have_the_same_files():
    """A reader who knows one adapter knows where to look in the other."""
    folders = [PROJECT / "adapters" / framework for framework in ("mmdet", "detectron2")]
    of_one, of_other = ({path.relative_to(folder) for path in folder.rglob("*.py")} for folder in folders)
    assert of_one == of_other
    variants = [path.parent for path in (PROJECT / "adapters" / "variants").glob("*/card.yaml")]
    assert variants
    assert [
        path for path in variants if not {"mmdet.py", "detectron2.py"} <= {one.name for one in path.glob("*.py")}
    ] == []


def test_no_name_that_says_nothing():
    names = {
        path.stem for folder in ("cascadebench", "adapters", "workflows") for path in (PROJECT / folder).rglob("*.*")
    }
    assert not names & {"util", "utils", "helper", "helpers", "common", "misc"}


def test_nothing_outside_the_tests_looks_like_a_test():
    looks = [
        path for folder in ("cascadebench", "adapters", "benchmarks") for path in (PROJECT / folder).rglob("test_*")
    ]
    assert looks == []


HEAVY = FORBIDDEN["cascadebench"] | {"pydantic", "snakemake", "altair"}


def modules_after(statement: str) -> set[str]:
    """Top-level packages, and subpackages of the project, that are loaded after a statement in a new process."""
    code = f"{statement}; import json, sys; print(json.dumps(list(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names = json.loads(output)
    return {name.split(".")[0] for name in names} | {name for name in names if name.startswith("cascadebench.")}


def test_the_evaluator_needs_no_framework_and_no_study():
    loaded = modules_after("from cascadebench import compare, evaluate")
    assert {"cascadebench.metrics.coco.evaluate_files", "cascadebench.uncertainty.compare_files"} <= loaded
    assert not loaded & (HEAVY | {"cascadebench.study", "cascadebench.execution", "cascadebench.report"})


def test_the_package_alone_loads_nothing_else():
    assert not modules_after("import cascadebench") & (HEAVY | {"numba", "pandas", "numpy"})


def test_names_of_the_face():
    assert cascadebench.evaluate is evaluate_files
    assert cascadebench.compare is compare_files
    assert all(hasattr(cascadebench, name) for name in cascadebench.__all__)
    assert not hasattr(cascadebench, "train")
