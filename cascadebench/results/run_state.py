"""How far a run has come, from what its folder holds; the one place that says it."""

from pathlib import Path
from typing import Literal, NamedTuple

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_object
from cascadebench.core.lease import killed_holder
from cascadebench.results.layout import RunFolder

Progress = Literal["evaluated", "predicted", "trained", "started", "inspected", "not run"]
TO_RESUME = "training has begun and is not finished; run again to resume"


class RunState(NamedTuple):
    """State of a run and a line of detail."""

    name: Progress | Literal["failed"]
    """What :func:`progress` says, or ``failed``."""
    detail: str
    """The failure of a failed run; empty, or what to do, for others. With ``evaluated`` a failure means that what is
    there stands beside a later step, or an attempt to make it anew, that failed."""


def progress(folder: RunFolder) -> Progress:
    """The furthest that a run has come, whatever failed since.

    Detections without the manifest of a training do not count: the run is to be trained again.
    """
    if folder.ap.exists():
        return "evaluated"
    if folder.trained.exists():
        return "predicted" if folder.detections.exists() else "trained"
    if folder.checkpoints.exists():
        return "started"
    return "inspected" if folder.controls.exists() else "not run"


def run_state(folder: Path) -> RunState:
    """State of the run whose folder this is."""
    run = RunFolder(folder)
    reached, failure = progress(run), _last_failure(run)
    if failure:
        return RunState(reached if reached == "evaluated" else "failed", failure)
    return RunState(reached, TO_RESUME if reached == "started" else "")


def _last_failure(run: RunFolder) -> str:
    """Say in one line what went wrong last with a run; empty: nothing did, or it was mended."""
    killed = killed_holder(run.path)
    if killed or not run.failed.exists():
        return killed or ""
    try:
        failure = read_object(run.failed)
    except InputError as error:
        return str(error)
    words = [str(failure[key]) for key in ("command", "message") if key in failure]
    return " ".join(": ".join(words).split())
