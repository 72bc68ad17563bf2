"""What is recorded beside a result: commit, machine, time."""

import importlib.metadata
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cascadebench import __version__
from cascadebench.core.configuration import PROJECT
from cascadebench.core.files import now, sha256_of
from cascadebench.execution import provenance
from cascadebench.execution.provenance import _processor, gpu_driver, hardware, installed, project_state


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_a_checkout_has_its_commit_and_says_whether_it_was_changed(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert project_state(checkout) == {"version": __version__, "commit": commit, "changed": False}
    (checkout / "results").mkdir()
    (checkout / "results" / "new").write_text("an untracked file changes no code")
    assert project_state(checkout)["changed"] is False
    (checkout / "file").write_text("two")
    assert project_state(checkout) == {"version": __version__, "commit": commit, "changed": True}


def test_what_is_no_checkout_of_its_own_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"version": __version__, "commit": None, "changed": None}
    inner = checkout / "inner"
    inner.mkdir()
    assert project_state(inner) == nothing
    monkeypatch.setenv("PATH", "")
    assert project_state(checkout) == nothing


def test_the_processor_is_named(tmp_path: Path) -> None:
    description = tmp_path / "cpuinfo"
    description.write_text("processor\t: 0\nmodel name\t: A Processor: 3 GHz\nmodel name\t: Another\n")
    assert _processor(description) == "A Processor: 3 GHz"
    assert _processor(tmp_path / "none")
    assert hardware()["processors"] >= 1


def test_every_installed_package_and_the_lock_files_are_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = installed()
    assert found["packages"]["pyyaml"] == importlib.metadata.version("PyYAML")
    assert found["packages"]["typing-extensions"] and list(found["packages"]) == sorted(found["packages"])
    assert {name.lower().replace("_", "-") for one in importlib.metadata.distributions() if (name := one.name)} == set(
        found["packages"]
    )
    assert found["locks"] == {name: sha256_of(PROJECT / name) for name in ("requirements.lock", "detectron2.lock")}
    package = tmp_path / "another_package-1.5.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: Another_Package\nVersion: 1.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    more = installed()
    assert more["packages"] == found["packages"] | {"another-package": "1.5"}
    assert more["packages_sha256"] != found["packages_sha256"] and not any(more["locks"].values())


def test_the_driver_of_a_gpu_is_that_of_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_driver() is None
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 550.54.15\necho 550.54.15\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert gpu_driver() == "550.54.15"


def test_times_are_in_utc() -> None:
    assert abs(datetime.fromisoformat(now()) - datetime.now(UTC)) < timedelta(seconds=5)
