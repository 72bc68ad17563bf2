"""What ``from cascadebench import evaluate, compare`` brings, and what it does without."""

import json
import subprocess
import sys

import cascadebench
from cascadebench.metrics.coco.evaluate_files import evaluate_files
from cascadebench.uncertainty.compare_files import compare_files

HEAVY = {
    "torch",
    "torchvision",
    "mmdet",
    "mmcv",
    "mmengine",
    "detectron2",
    "adapters",
    "pydantic",
    "snakemake",
    "altair",
}


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
