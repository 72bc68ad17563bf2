"""Whether a step's batch can be divided among processes and passes without other numbers."""

from cascadebench.core.errors import InputError
from cascadebench.study.run import Run

LEARNS_FROM_PART = "batch norm would learn from a part of each batch"
"""Why a step is refused in several parts."""


def check_batch_division(run: Run, processes: int, accumulation: int, asked_by: str) -> None:
    """Refuse passes and processes (GPUs) among which a run's batch cannot be divided without other numbers.

    Raises
    ------
    InputError
        If the division leaves a rest, or if batch norm would learn from a part of a batch.
    """
    batch_size, norm = run.protocol.schedule.batch_size, run.protocol.backbone.batch_norm
    if batch_size % (processes * accumulation):
        by = f"{processes} process(es) with {accumulation} pass(es) each"
        raise InputError(f"{asked_by}: a batch of {batch_size} images cannot be divided among {by}")
    if norm == "trained" and run.backbone.norm == "batch":
        whose, otherwise = f"protocol {run.protocol.name}", "backbone.batch_norm is fixed_statistics or frozen"
        check_parts(processes, accumulation, asked_by, f"{whose}; only 1 is allowed unless {otherwise}")


def check_parts(processes: int, accumulation: int, asked_by: str, where: str) -> None:
    """Refuse a step in several parts where batch norm would learn from one of them; `where` ends the message."""
    if processes * accumulation > 1:
        key, number = ("accumulation", accumulation) if accumulation > 1 else ("gpus", processes)
        raise InputError(f"{asked_by}.{key}: {number}: {LEARNS_FROM_PART} in {where}")
