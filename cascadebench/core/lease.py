"""The right of one process at a time to write into a folder that several may want to fill.

It is a lock of the operating system on the file ``.lease`` (``flock``), which ends with the process that holds it,
however it ends. The file says who holds it and counts heartbeats, for two reasons: a file system whose locks do not
reach other machines, where a holder that still beats is waited for; and a process that was killed, which leaves its
name there.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from cascadebench.core.files import now

LEASE = ".lease"
HEARTBEAT_SECONDS = 20
STALE_SECONDS = 120
"""After this time without a heartbeat a holder on another machine is taken for dead."""
_ASK_AGAIN_SECONDS = 1.0
_OUT_OF_MEMORY_COUNTS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))


@contextmanager
def leased(folder: Path, command: str, say: Callable[[str], None] = print) -> Iterator[bool]:
    """Hold the folder while the block runs; wait for it if another process does.

    Parameters
    ----------
    command : str
        What is done, for those who wait.
    say : callable
        Called with one line when there is somebody to wait for.

    Yields
    ------
    bool
        Whether another process held the folder before, so that the work may be done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LEASE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        waited = _acquire(handle, folder, say)
        about = {"host": socket.gethostname(), "pid": os.getpid(), "command": command, "since": now()}
        about["out_of_memory_kills"] = _out_of_memory_kills()
        over = Event()
        beating = Thread(target=_beat, args=(handle, about, over), daemon=True)
        _write(handle, about | {"beat": 0, "time": now()})
        beating.start()
        try:
            yield waited
        finally:
            over.set()
            beating.join()
            _write(handle, None)
    finally:
        os.close(handle)  # ends the lock


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Lock a folder itself for the moment that it takes to replace what is in it, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # NFS cannot lock a folder
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _acquire(handle: int, folder: Path, say: Callable[[str], None]) -> bool:
    """Take the lock; returns whether somebody else had it."""
    waited, seen, since = False, None, 0.0
    while True:
        locks = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = False
        except BlockingIOError:
            held = True
        except OSError:  # a file system without locks
            held, locks = False, False
        holder = _read(handle)
        if not held:
            if holder is None or (holder["host"] == socket.gethostname() and (locks or not _alive(holder["pid"]))):
                return waited
            # The lock may not reach the other machine: its heart must have stopped, by our own clock.
            if holder != seen:
                seen, since = holder, time.monotonic()
            if time.monotonic() - since > STALE_SECONDS:
                return waited
            if locks:
                fcntl.flock(handle, fcntl.LOCK_UN)
        if not waited:
            whom = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
            say(f"{folder}: waiting for {whom}, which is writing there")
            waited = True
        time.sleep(_ASK_AGAIN_SECONDS)


def killed_holder(folder: Path) -> str | None:
    """Say which process was killed while it held the folder, if one was and none holds it now.

    Returns
    -------
    str or None
        Such as ``train: process 12 on node3 was killed after 2026-01-02T03:04:05+00:00``.
    """
    try:
        handle = os.open(folder / LEASE, os.O_RDONLY)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return None  # held, or a file system that cannot tell
        holder = _read(handle)
        if holder is None:
            return None
        here = holder["host"] == socket.gethostname()
        if not here and time.time() - os.fstat(handle).st_mtime < STALE_SECONDS:
            return None
    finally:
        os.close(handle)
    before, after = holder.get("out_of_memory_kills"), _out_of_memory_kills()
    because = ""
    if here and before is not None and after is not None and after > before:
        because = ", probably by the system for want of memory (execution.memory_mb)"
    return (
        f"{holder['command']}: process {holder['pid']} on {holder['host']} was killed after {holder['time']}{because}; "
        "run again to go on"
    )


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _out_of_memory_kills() -> int | None:
    """How many processes of this control group were killed because memory ran out; None if the system does not say."""
    for path in _OUT_OF_MEMORY_COUNTS:
        try:
            counts = dict(line.split() for line in path.read_text().splitlines())
            return int(counts["oom_kill"])
        except (OSError, KeyError, ValueError):
            continue
    return None


def _beat(handle: int, about: dict[str, Any], over: Event) -> None:
    beat = 0
    while not over.wait(HEARTBEAT_SECONDS):
        beat += 1
        _write(handle, about | {"beat": beat, "time": now()})


def _write(handle: int, content: dict[str, Any] | None) -> None:
    """Replace the content in place: the lock is on this very file."""
    text = b"" if content is None else json.dumps(content).encode().ljust(512)
    try:
        os.pwrite(handle, text, 0)
        os.ftruncate(handle, len(text))
    except OSError:  # a full disk: the lock holds without words
        os.ftruncate(handle, 0)


def _read(handle: int) -> dict[str, Any] | None:
    """Who holds the lease, as far as the file says; None: nobody, or it is being written."""
    try:
        content = json.loads(os.pread(handle, 4096, 0))
        return content if {"host", "pid", "command", "time"} <= content.keys() else None
    except (ValueError, AttributeError):
        return None
