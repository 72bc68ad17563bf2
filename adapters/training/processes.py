"""Several processes that train one model on one machine, and the one that starts them and answers for them.

That one holds the run's folder, hands signals on and waits. The others have the environment that ``torchrun`` gives.
Torchrun itself kills them 30 seconds after a signal, whether the checkpoint is written or not, and always ends with 1.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.training.distributed import RENDEZVOUS_FOLDER, STARTED_BY
from cascadebench.core.errors import Fault, InputError
from cascadebench.core.files import read_json, write_json
from cascadebench.execution.failures import WorkerError, failure_of
from cascadebench.execution.interruption import Interruption, Stopped

SECONDS_AFTER_A_FAILURE = 60.0
"""When one has failed, the others wait for it in vain or write a checkpoint; after this they are killed."""
_LOOK_AGAIN_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


def train_in_processes(number: int, argv: Sequence[str], interruption: Interruption) -> None:
    """Give a command to several processes and wait for them.

    Parameters
    ----------
    argv : sequence of str
        The command line of this process, which is also theirs.

    Raises
    ------
    Stopped, InputError, Fault, WorkerError
        How they ended, if not well; of several failures the one that explains the others.
    """
    processes: list[subprocess.Popen] = []
    with tempfile.TemporaryDirectory(prefix="cascadebench-") as folder, interruption.watched(None):
        try:
            for rank in range(number):
                processes.append(_start(rank, number, argv, folder))
            given_up = _wait(processes, interruption)
        finally:
            _kill(processes)
        codes = [0 if rank in given_up else process.returncode for rank, process in enumerate(processes)]
        ends = [_end(Path(folder) / f"{rank}.json", rank, code, number) for rank, code in enumerate(codes)]
        failed = any(process.returncode for process in processes)
    end = min((one for one in ends if one), default=None, key=lambda one: one[:2])
    if failed and interruption.number and (end is None or end[0] > _STOPPED):
        raise Stopped(interruption.number, "; the next attempt goes on from the last checkpoint")
    if end:
        place, _, error = end
        raise Stopped(interruption.number, error.how) if place == _STOPPED and interruption.number else error


def _start(rank: int, number: int, argv: Sequence[str], folder: str) -> subprocess.Popen:
    """Start one of the processes."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number}
    place |= {STARTED_BY: os.getpid(), RENDEZVOUS_FOLDER: folder}
    environment = os.environ | {name: str(value) for name, value in place.items()}
    return subprocess.Popen([sys.executable, "-m", "adapters", *argv], env=environment)


def _wait(processes: Sequence[subprocess.Popen], interruption: Interruption) -> set[int]:
    """Wait until all have ended; returns those that another's failure had left waiting, and were killed."""
    asked_to_stop, until, given_up = False, None, set()
    while alive := [rank for rank, process in enumerate(processes) if process.poll() is None]:
        if interruption.number and not asked_to_stop:
            # Not the same signal: Ctrl-C has reached them from the terminal too, and a second would end them at once.
            for rank in alive:
                processes[rank].send_signal(signal.SIGTERM)
            asked_to_stop = True
        if until is None and any(process.returncode for process in processes):
            until = time.monotonic() + SECONDS_AFTER_A_FAILURE
        if until is not None and time.monotonic() > until:
            given_up.update(alive)
            _kill(processes)
        time.sleep(_LOOK_AGAIN_SECONDS)
    return given_up


def _kill(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


_FINAL, _FAULT, _INPUT, _STOPPED, _KILLED, _ERROR = range(6)
"""From what explains most to least: once one process has failed, the others fail because it is gone."""


def _end(path: Path, rank: int, code: int, number: int) -> tuple[int, float, BaseException] | None:
    """How one process ended: its place among the explanations, the time, and the exception; None: well, or in vain."""
    if path.exists():
        report = read_json(path)
        return report["place"], report["time"], _exception(report)
    if not code:
        return None
    name = signal.Signals(-code).name if code < 0 else f"code {code}"
    because = ", probably for want of memory" if code == -signal.SIGKILL else ""
    return _KILLED, time.time(), Fault(f"process {rank} of the {number} that train was ended by {name}{because}")


def _exception(report: dict[str, Any]) -> BaseException:
    """Make the exception again that :func:`report_to_parent` has written down."""
    if report["place"] == _STOPPED:
        return Stopped(report["number"], report["message"])
    if report["place"] in (_FINAL, _FAULT):
        return Fault(report["message"], final=report["place"] == _FINAL)
    if report["place"] == _INPUT:
        return InputError(report["message"])
    return WorkerError(report["message"], report["lines"])


def report_to_parent(error: BaseException) -> None:
    """Report to the process that started this one how it ended."""
    if isinstance(error, Stopped):
        report = {"place": _STOPPED, "number": error.number, "message": error.how}
    else:
        failure = failure_of(error)
        report = {"message": failure.message, "lines": failure.lines}
        report["place"] = {"fault": _FINAL if failure.final else _FAULT, "input": _INPUT}.get(failure.kind, _ERROR)
    path = Path(os.environ[RENDEZVOUS_FOLDER]) / f"{os.environ['RANK']}.json"
    try:
        write_json(path, report | {"time": time.time()})
    except OSError as also:  # the log is all that is left
        print(f"{path}: cannot be written: {also.strerror}; {json.dumps(report)}", file=sys.stderr)


def die_with_parent() -> None:
    """Die when the process that started this one does: nobody else holds the run's folder."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[STARTED_BY]):
        raise SystemExit(1)
