"""One process at a time trains or predicts a run, and what another has made already is taken over."""

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from adapters.training.distributed import is_one_of_several
from cascadebench.core.errors import InputError
from cascadebench.core.files import read_json, remove_unfinished
from cascadebench.core.lease import leased
from cascadebench.execution.failures import refuse_again
from cascadebench.execution.shared_runs import digests
from cascadebench.results.layout import PREDICTION_FILES
from cascadebench.study.run import Run

WRITTEN = {"train": ("trained.json",), "predict": ("predicted.json", *PREDICTION_FILES)}
"""What the commands write that only one process at a time may; the first is the manifest, which comes last."""


def execute(work: Callable[[], None], arguments: argparse.Namespace) -> None:
    """Do the work of a command on ``arguments.out``, after any other process that does the same there.

    Where another process has finished it meanwhile, nothing is left to do.
    """
    if is_one_of_several():  # the process that started it holds the folder
        work()
        return
    names = WRITTEN.get(arguments.command, ())
    with leased(arguments.out, arguments.command) if names else nullcontext(False) as waited:
        refuse_again(arguments.out, arguments.command, arguments.attempt)
        for name in names:
            remove_unfinished(arguments.out / name)
        if waited and _is_complete(arguments.out / names[0]):
            print(f"{arguments.out / names[0]}: made meanwhile by another process", flush=True)
        else:
            work()


def _is_complete(manifest: Path) -> bool:
    """Whether a manifest is there, and every file that it lists is as it says."""
    if not manifest.exists():
        return False
    files = read_json(manifest).get("files", {})
    return digests(manifest.parent, files) == files


def taken(arguments: argparse.Namespace, run: Run, take: Callable[[Path], None]) -> bool:
    """Take what another has made if ``--shared-results`` names it and all of it is right; else say why it is not."""
    begun = arguments.command == "train" and any((arguments.out / "checkpoints").glob("*.pt"))
    if arguments.shared_results is None or begun or is_one_of_several():
        return False
    try:
        take(arguments.shared_results)
    except InputError as error:
        print(f"not taken: {error}; {run.id} is made here", flush=True)
        return False
    print(f"taken from {arguments.shared_results / 'runs' / run.id}", flush=True)
    return True
