"""One command on one run, as the command line asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cascadebench.execution.interruption import Interruption
from cascadebench.results.layout import DatasetFolder, RunFolder
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution


@dataclass(frozen=True)
class Job:
    """What a command of :mod:`adapters.commands` works on; built once, never changed.

    Attributes
    ----------
    command : str
        ``inspect``, ``train``, ``predict`` or ``predict-with``.
    out : RunFolder
        The run's folder.
    data : DatasetFolder
        The prepared dataset.
    device : torch.device
        Of this process.
    execution : Execution
        Threads, accumulation, loader processes, intervals, and whether a prediction writes its diagnostics.
    processes : int
        That train every step together.
    attempt : int
        Above 1: what no further attempt can mend is refused.
    shared_results : Path or None
        A folder ``results`` whose finished runs are taken.
    proposals_of : Path or None
        ``run.yaml`` of the run whose boxes ``predict-with`` takes; None: the ground truth is added to the proposals.
    stage : int
        Its boxes after this stage; 0: its proposals.
    argv : tuple of str
        The command line, for the processes that share the work.
    begun : mapping
        What a result records of its beginning: the project's state, the command and the time.
    interruption : Interruption
        Whether a signal asks to stop.
    """

    command: str
    run: Run
    out: RunFolder
    data: DatasetFolder
    device: torch.device
    execution: Execution
    processes: int
    attempt: int
    shared_results: Path | None
    proposals_of: Path | None
    stage: int
    argv: tuple[str, ...]
    begun: Mapping[str, Any]
    interruption: Interruption
