"""One process at a time; waiting, taking over, and telling who was killed."""

import json
import os
import signal
import socket
import time

import pytest

from cascadebench.core import lease
from cascadebench.core.lease import LEASE, killed_holder, leased
from cascadebench.results.run_state import run_state


def holding(folder) -> int:
    """Start a process that holds a folder until it is killed; returns its number."""
    child = os.fork()
    if not child:
        with leased(folder, "train"):
            time.sleep(60)
        os._exit(0)
    while not (folder / LEASE).exists() or not (folder / LEASE).read_text().strip():
        time.sleep(0.01)
    return child


def end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_second_process_waits_until_the_first_is_killed_and_takes_over(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "_ASK_AGAIN_SECONDS", 0.05)
    child = holding(tmp_path)
    assert killed_holder(tmp_path) is None
    said = []

    def say(line):
        said.append(line)
        end(child)

    with leased(tmp_path, "train", say) as waited:
        assert waited
        assert killed_holder(tmp_path) is None
    assert said == [f"{tmp_path}: waiting for process {child} on {socket.gethostname()}, which is writing there"]
    assert killed_holder(tmp_path) is None


def test_a_killed_process_is_told_of_until_the_next_takes_over(tmp_path):
    child = holding(tmp_path)
    end(child)
    words = f"train: process {child} on {socket.gethostname()} was killed after "
    assert killed_holder(tmp_path).startswith(words)
    assert run_state(tmp_path)[0] == "failed"
    assert run_state(tmp_path)[1].startswith(words)
    with leased(tmp_path, "train") as waited:
        assert not waited
    assert run_state(tmp_path) == ("not run", "")


def test_want_of_memory_is_said_where_the_system_tells(tmp_path, monkeypatch):
    counts = tmp_path / "memory.events"
    counts.write_text("low 0\noom 3\noom_kill 2\n")
    monkeypatch.setattr(lease, "_OUT_OF_MEMORY_COUNTS", (counts,))
    end(holding(tmp_path / "run"))
    assert "want of memory" not in killed_holder(tmp_path / "run")
    counts.write_text("low 0\noom 4\noom_kill 3\n")
    assert "probably by the system for want of memory" in killed_holder(tmp_path / "run")


def written_by_another_host(folder, beat=0):
    content = {"host": "elsewhere", "pid": 1, "command": "train", "time": "then", "beat": beat}
    (folder / LEASE).write_text(json.dumps(content))


def test_a_holder_on_another_machine_is_waited_for_while_its_heart_beats(tmp_path, monkeypatch):
    """The lock of the file system does not reach it; its heartbeats do."""
    monkeypatch.setattr(lease, "_ASK_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(lease, "STALE_SECONDS", 0.4)
    written_by_another_host(tmp_path)
    began, beats = time.monotonic(), iter(range(1, 6))
    sleep = time.sleep

    def sleeping(seconds):
        sleep(seconds)
        beat = next(beats, None)
        if beat is not None:
            written_by_another_host(tmp_path, beat)

    monkeypatch.setattr(lease.time, "sleep", sleeping)
    with leased(tmp_path, "train", lambda line: None) as waited:
        assert waited
    assert time.monotonic() - began > 0.6  # five beats, and then the time after which it is taken for dead


def test_what_fails_inside_leaves_no_holder(tmp_path):
    with pytest.raises(ValueError, match="inside"), leased(tmp_path, "predict"):
        raise ValueError("inside")
    assert (tmp_path / LEASE).read_bytes() == b""
    assert killed_holder(tmp_path) is None
