"""What a command leaves behind when it fails: one line, and ``failed.json`` for the tables and the report."""

import errno
import sys
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from cascadebench.errors import Fault
from cascadebench.files import read_json, write_json

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def as_fault(error: BaseException) -> Fault | None:
    """Find the fault behind an exception; None: it is a mistake in a program, which needs its traceback."""
    for one in _causes(error):
        if isinstance(one, Fault):
            return one
        if isinstance(one, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(one):
            said = str(one).splitlines()[0] if str(one) else "no more could be had"
            return Fault(f"out of memory: {said}; smaller batches or images, or more memory, may help")
        if "is killed by signal" in str(one) or "exited unexpectedly" in str(one):
            return Fault("a process that reads pictures was killed, probably for want of memory (loader_workers)")
        if isinstance(one, OSError) and one.errno in _FULL:
            return Fault(f"{one.filename or 'a file'}: cannot be written: {one.strerror}; the disk or a quota is full")
        if isinstance(one, OSError) and one.filename and one.strerror:
            return Fault(f"{one.filename}: {one.strerror}")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def note_failure(folder: Path, command: str, error: BaseException) -> None:
    """Print the fault as one line, or a traceback if it is none, and write ``failed.json``."""
    fault = as_fault(error)
    if fault:
        message, lines = str(fault), [f"error: {fault}"]
    else:
        message, lines = f"{type(error).__name__}: {error}", traceback.format_exc().splitlines()[-12:]
        traceback.print_exc()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    failure = {"command": command, "message": message, "time": now, "final": bool(fault and fault.final), "log": lines}
    try:
        write_json(folder / "failed.json", failure)
    except OSError as also:
        print(f"error: {folder / 'failed.json'}: cannot be written either: {also.strerror}", file=sys.stderr)
    if fault:
        print(f"error: {fault}", file=sys.stderr)


def forget_failure(path: Path, command: str, order: Sequence[str]) -> None:
    """Remove the note of a failure of this command or of one before it; a later command's failure stands."""
    if path.exists() and order.index(read_json(path)["command"]) <= order.index(command):
        path.unlink()


def refuse_again(folder: Path, command: str, attempt: int) -> None:
    """Raise the fault that ended the attempt before, if it would end this one in the same way."""
    path = folder / "failed.json"
    if attempt > 1 and path.exists():
        failure = read_json(path)
        if failure.get("final") and failure["command"] == command:
            raise Fault(f"{failure['message'].removesuffix(NOT_AGAIN)}{NOT_AGAIN}", final=True)


NOT_AGAIN = " (not tried again by itself)"
