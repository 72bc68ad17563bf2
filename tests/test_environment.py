"""The conda environment and the lock file hold the same pins."""

import re
import tomllib

import yaml

from cascadebench.core.configuration import PROJECT

PYTHON = (3, 11)
CONDA_NAMES = {"pytorch": "torch"}
# What only one of the two installs: compilers and installers, and Detectron2, which comes from other places.
CONDA_ONLY = {"python", "pip", "cxx-compiler", "ninja", "wheel"}


def locked() -> dict[str, str]:
    """Pins of requirements.lock for Python 3.11."""
    pins = {}
    for line in (PROJECT / "requirements.lock").read_text().splitlines():
        match = re.fullmatch(r"([a-z0-9-]+)==([^ ;]+)(?: ; (.*))?", line)
        if match and not (match[3] or "").startswith("python_full_version >= '3.12'"):
            pins[match[1]] = match[2]
    return pins


def wanted() -> set[str]:
    """Names in requirements.in."""
    lines = (PROJECT / "requirements.in").read_text().splitlines()
    return {re.split(r"[<>=]", line)[0] for line in lines if line and not line.startswith("#")}


def conda() -> dict[str, str]:
    """Pins of environment.yml, by their names on PyPI."""
    dependencies = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    plain = [entry for entry in dependencies if isinstance(entry, str)]
    of_pip = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    pins = {}
    for entry in [*plain, *(entry for entry in of_pip if "git+" not in entry)]:
        name, _, version = entry.partition("==")
        name = name.split("=")[0]
        if name not in CONDA_ONLY:
            pins[CONDA_NAMES.get(name, name)] = version
    return pins


def test_conda_and_lock_hold_the_same_pins():
    lock = locked()
    assert conda() == {name: lock[name] for name in wanted()}


def test_conda_takes_official_detectron2_at_a_commit():
    text = (PROJECT / "environment.yml").read_text()
    assert re.search(r"detectron2 @ git\+https://github\.com/facebookresearch/detectron2@[0-9a-f]{40}\n", text)


def test_the_lock_is_complete():
    """Every package of requirements.in and of pyproject.toml is pinned."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=]", entry)[0] for entry in project["dependencies"]}
    assert wanted() | declared <= set(locked())


def test_no_opencv_that_needs_a_display():
    assert "opencv-python" not in locked()
    assert "opencv-python-headless" in locked()
