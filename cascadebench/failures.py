"""What a command leaves behind when it fails: one line, and ``failed.json`` for the tables and the report."""

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cascadebench.errors import Fault, InputError
from cascadebench.files import read_json, write_json

STEPS = ("inspect", "train", "predict", "predict-with", "evaluate-run", "diagnose-run")
"""Commands that work on a run's folder, in their order."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def as_fault(error: BaseException) -> Fault | None:
    """Find the fault behind an exception; None: it is a mistake in a program, which needs its traceback."""
    for one in _causes(error):
        if isinstance(one, Fault):
            return one
        if isinstance(one, MemoryError) or _is_want_of_memory(one):
            said = str(one).splitlines()[0] if str(one) else "no more could be had"
            return Fault(f"out of memory: {said}; smaller batches or images, or more memory, may help")
        if "is killed by signal" in str(one) or "exited unexpectedly" in str(one):
            return Fault("a process that reads pictures was killed, probably for want of memory (loader_workers)")
        if isinstance(one, OSError) and one.errno in _FULL:
            return Fault(f"{one.filename or 'a file'}: cannot be written: {one.strerror}; the disk or a quota is full")
        if isinstance(one, OSError) and one.filename and one.strerror:
            return Fault(f"{one.filename}: {one.strerror}")
    return None


def _is_want_of_memory(error: BaseException) -> bool:
    """Whether torch says so, of a GPU or of the CPU."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def note_failure(folder: Path, command: str, error: BaseException) -> None:
    """Print the fault as one line, or a traceback if it is none, and write ``failed.json``."""
    fault = as_fault(error)
    if fault:
        print(f"error: {fault}", file=sys.stderr)
        message, lines = str(fault), [f"error: {fault}"]
    elif isinstance(error, InputError):
        message, lines = str(error), [f"error: {error}"]
    else:
        message, lines = f"{type(error).__name__}: {error}", traceback.format_exc().splitlines()[-12:]
        traceback.print_exc()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    failure = {"command": command, "message": message, "time": now, "final": bool(fault and fault.final), "log": lines}
    try:
        write_json(folder / "failed.json", failure)
    except OSError as also:
        print(f"error: {folder / 'failed.json'}: cannot be written: {also.strerror}", file=sys.stderr)


def forget_failure(folder: Path, command: str) -> None:
    """Remove the note of a failure of this command or of one before it; a later command's failure stands."""
    path = folder / "failed.json"
    if path.exists() and STEPS.index(read_json(path)["command"]) <= STEPS.index(command):
        path.unlink()


@contextmanager
def noted(folder: Path, command: str) -> Iterator[None]:
    """Note a failure of the block in a run's folder, or forget an earlier one when it succeeds.

    Raises
    ------
    SystemExit
        With code 1, after a fault or an error in a program has been printed; what else is wrong input stays as it is.
    """
    try:
        yield
    except Exception as error:
        note_failure(folder, command, error)
        if isinstance(error, InputError) and not isinstance(error, Fault):
            raise
        raise SystemExit(1) from error
    forget_failure(folder, command)


def refuse_again(folder: Path, command: str, attempt: int) -> None:
    """Raise the fault that ended the attempt before, if it would end this one in the same way."""
    path = folder / "failed.json"
    if attempt > 1 and path.exists():
        failure = read_json(path)
        if failure.get("final") and failure["command"] == command:
            raise Fault(f"{failure['message'].removesuffix(NOT_AGAIN)}{NOT_AGAIN}", final=True)


NOT_AGAIN = " (not tried again by itself)"
