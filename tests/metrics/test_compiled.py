"""Compiled functions: rounding, and where their machine code is kept."""

import os
import subprocess
import sys

import pytest

from cascadebench.core.configuration import PROJECT

EVALUATE = """
import json
from drawn_problems import drawn
from test_kernel import kernel
from cascadebench.metrics.coco import accumulation, matching
found = kernel(*drawn(50)[-1])
functions = matching._match, accumulation._accumulate
hits = [sum(function.stats.cache_hits.values()) for function in functions]
print(json.dumps([found.ap.sum(), hits]))
"""
INSPECT = """
for function in functions:
    (assembly,) = function.inspect_asm().values()
    assert "divsd" in assembly
    assert "fmadd" not in assembly and "fmsub" not in assembly and "fnmadd" not in assembly
"""


def in_new_process(code, **environment):
    """What a new Python prints."""
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "tests"), str(PROJECT / "tests" / "metrics")])
    environment = os.environ | {"PYTHONPATH": path} | environment
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder that holds nothing at first."""
    return str(tmp_path_factory.mktemp("cache"))


def test_no_contraction_and_kept_for_later_processes(cache):
    """A fused multiply-add would round once where pycocotools rounds twice."""
    first = in_new_process(EVALUATE + INSPECT, NUMBA_CACHE_DIR=cache)
    second = in_new_process(EVALUATE, NUMBA_CACHE_DIR=cache)
    assert first.endswith("[0, 0]]\n") and second.endswith("[1, 1]]\n")
    assert first.split(",")[0] == second.split(",")[0]


def test_without_any_folder_to_write_it_still_works(tmp_path):
    """The only folder that numba may use for its cache is a file."""
    (tmp_path / "file").write_text("")
    only = {"NUMBA_CACHE_DIR": str(tmp_path / "file"), "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    assert in_new_process(EVALUATE, **only).endswith("[0, 0]]\n")
