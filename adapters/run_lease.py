"""One process at a time trains or predicts a run, and what another has made already is taken over."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from adapters.job import Job
from adapters.training.distributed import is_one_of_several
from cascadebench.core.errors import InputError
from cascadebench.core.files import read_json, remove_unfinished
from cascadebench.core.lease import leased
from cascadebench.execution.failures import refuse_again
from cascadebench.execution.shared_runs import digests
from cascadebench.results.layout import PREDICTION_FILES, ResultsFolder, RunFolder

WRITTEN = {"train": (RunFolder.trained,), "predict": (RunFolder.predicted, *PREDICTION_FILES)}
"""What the commands write that only one process at a time may; the first is the manifest, which comes last."""


def execute(work: Callable[[], None], job: Job) -> None:
    """Do the work of a job in its run's folder, after any other process that does the same there.

    Where another process has finished it meanwhile, nothing is left to do.
    """
    if is_one_of_several():  # the process that started it holds the folder
        work()
        return
    folder, names = job.out.path, WRITTEN.get(job.command, ())
    with leased(folder, job.command) if names else nullcontext(False) as waited:
        refuse_again(folder, job.command, job.attempt)
        for name in names:
            remove_unfinished(folder / name)
        if waited and _is_complete(folder / names[0]):
            print(f"{folder / names[0]}: made meanwhile by another process", flush=True)
        else:
            work()


def _is_complete(manifest: Path) -> bool:
    """Whether a manifest is there, and every file that it lists is as it says."""
    if not manifest.exists():
        return False
    files = read_json(manifest).get("files", {})
    return digests(manifest.parent, files) == files


def take_shared(job: Job, take: Callable[[Path], None]) -> bool:
    """Take what another has made if ``--shared-results`` names it and all of it is right; else say why it is not."""
    begun = job.command == "train" and any(job.out.checkpoints.glob("*.pt"))
    if job.shared_results is None or begun or is_one_of_several():
        return False
    try:
        take(job.shared_results)
    except InputError as error:
        print(f"not taken: {error}; {job.run.id} is made here", flush=True)
        return False
    print(f"taken from {ResultsFolder(job.shared_results).run(job.run.id).path}", flush=True)
    return True
