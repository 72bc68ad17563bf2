"""What is recorded beside a result: commit, machine, time."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cascadebench import __version__
from cascadebench.core.files import now
from cascadebench.execution.provenance import _processor, hardware, project_state


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


def test_times_are_in_utc() -> None:
    assert abs(datetime.fromisoformat(now()) - datetime.now(UTC)) < timedelta(seconds=5)
