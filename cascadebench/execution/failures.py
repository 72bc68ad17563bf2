"""What a command leaves behind when it fails: one line, and ``failed.json`` for the tables and the report."""

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cascadebench.core.errors import Fault, InputError
from cascadebench.core.files import now, read_json, write_json
from cascadebench.results.layout import RunFolder

STEPS = ("inspect", "train", "predict", "predict-with", "evaluate-run", "diagnose-run")
"""Commands that work on a run's folder, in their order."""
_LINES_KEPT = 12
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_wrong_input(error: BaseException) -> bool:
    """Whether an exception says what was given wrongly, and not what went wrong with it."""
    return isinstance(error, InputError) and not isinstance(error, Fault)


def as_fault(error: BaseException) -> Fault | None:
    """Find the fault behind an exception; None: it is a mistake in a program, which needs its traceback."""
    for one in _causes(error):
        if isinstance(one, Fault):
            return one
        if isinstance(one, MemoryError) or _is_want_of_memory(one):
            said = str(one).splitlines()[0] if str(one) else "no more could be had"
            return Fault(f"out of memory: {said}; smaller batches or images, or more memory, may help")
        if isinstance(one, FloatingPointError):  # so Detectron2 says it of proposals, before there is a loss
            said = str(one).splitlines()[0] if str(one) else "a number"
            return Fault(f"numbers of the model are not finite: {said}; try a lower base_lr", final=True)
        # What torch says of a loader's process.
        if "is killed by signal" in str(one) or "exited unexpectedly" in str(one):
            killed = "is killed by signal: Killed" in str(one)
            because = "was killed, probably for want of memory" if killed else f"ended: {one}"
            return Fault(f"a process that reads pictures (loader_workers) {because}")
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


class WorkerError(Exception):
    """A mistake in a program that showed in another process.

    Parameters
    ----------
    lines : list of str
        Its traceback there.
    """

    def __init__(self, message: str, lines: list[str]) -> None:
        super().__init__(message)
        self.lines = lines


@dataclass(frozen=True)
class Failure:
    """What is told of an error."""

    kind: Literal["fault", "input", "error"]
    """``fault``, ``input`` (wrong input) or ``error`` (a mistake in a program)."""
    message: str
    final: bool
    """As :attr:`cascadebench.core.errors.Fault.final`."""
    lines: list[str]
    """What is printed: one line, or a traceback."""


def failure_of(error: BaseException) -> Failure:
    """Say in one line what has gone wrong, or with a traceback where it is a mistake in a program."""
    if is_wrong_input(error):
        return Failure("input", str(error), False, [f"error: {error}"])
    if fault := as_fault(error):
        return Failure("fault", str(fault), fault.final, [f"error: {fault}"])
    if isinstance(error, WorkerError):
        return Failure("error", str(error), False, error.lines)
    lines = "".join(traceback.format_exception(error)).splitlines()
    return Failure("error", f"{type(error).__name__}: {error}", False, lines)


def note_failure(folder: Path | None, command: str, error: BaseException, *, quietly: bool = False) -> None:
    """Print what has gone wrong, unless `quietly`, and write ``failed.json`` in a run's folder, if it is known."""
    found = failure_of(error)
    if not quietly:
        print("\n".join(found.lines), file=sys.stderr)
    if folder is None:
        return
    failure = {"command": command, "message": found.message, "time": now(), "final": found.final}
    failure["log"] = found.lines[-_LINES_KEPT:]
    path = RunFolder(folder).failed
    try:
        write_json(path, failure)
    except OSError as also:
        print(f"error: {path}: cannot be written: {also.strerror}", file=sys.stderr)


def forget_failure(folder: Path, command: str) -> None:
    """Remove the note of a failure of this command or of one before it; a later command's failure stands."""
    path = RunFolder(folder).failed
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
        if is_wrong_input(error):
            raise
        raise SystemExit(1) from error
    forget_failure(folder, command)


def refuse_again(folder: Path, command: str, attempt: int) -> None:
    """Raise the fault that ended the attempt before, if it would end this one in the same way.

    A first attempt was asked for by a person and forgets that fault: if a signal stops it, the second goes on.
    """
    path = RunFolder(folder).failed
    failure = read_json(path) if path.exists() else {}
    if failure.get("command") == command:
        if attempt == 1:
            path.unlink()
        elif failure.get("final"):
            raise Fault(f"{failure['message'].removesuffix(NOT_AGAIN)}{NOT_AGAIN}", final=True)


NOT_AGAIN = " (not tried again by itself)"
