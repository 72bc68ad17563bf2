"""``python -m adapters FRAMEWORK inspect|train|predict|predict-with --run run.yaml --out DIR``, with torch loaded.

The command line: arguments, devices, and what happens when something fails. What the commands do is in
:mod:`adapters.commands`.
"""

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adapters.commands import COMMANDS, circumstances, load_adapter, read_own_run
from adapters.contract import Adapter
from adapters.job import Job
from adapters.portable_arithmetic import check_arithmetic
from adapters.prediction import checkpoint_prediction
from adapters.run_lease import execute
from adapters.training.arithmetic import set_arithmetic
from adapters.training.distributed import is_one_of_several, start_process_group, stop_process_group
from adapters.training.processes import die_with_parent, report_to_parent
from cascadebench.core.configuration import validated
from cascadebench.core.errors import InputError
from cascadebench.core.files import now
from cascadebench.execution.failures import forget_failure, is_wrong_input, note_failure
from cascadebench.execution.interruption import Interruption, Stopped
from cascadebench.execution.provenance import project_state
from cascadebench.execution.shared_runs import SHARED_RESULTS
from cascadebench.results.layout import RESULTS, DatasetFolder, ResultsFolder, RunFolder
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; a wrong one exits with code 2."""
    parser = argparse.ArgumentParser(prog="python -m adapters", description=__doc__.splitlines()[0])
    parser.add_argument("framework")
    parser.add_argument("command", choices=list(COMMANDS))
    parser.add_argument("--run", type=Path, required=True, nargs="+", help="the run, run.yaml; inspect takes several")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--each", action="store_true", help="--out is the folder above the runs' folders")
    parser.add_argument("--data", type=Path, help="prepared dataset; default: results/datasets/<name of the dataset>")
    parser.add_argument("--gpus", type=int, help="GPUs; 0: the CPU; above 1 training starts a process on each")
    parser.add_argument(
        "--processes", type=int, default=1, help="without GPUs: processes that train every step together"
    )
    parser.add_argument(
        "--threads", type=int, dest="cpu_threads", help="CPU threads; 1 gives the same bytes on every run"
    )
    parser.add_argument("--accumulation", type=int, help="passes of every process that make up one step")
    parser.add_argument("--workers", type=int, dest="loader_workers", help="processes that read training images")
    parser.add_argument("--checkpoint-interval", type=int)
    parser.add_argument("--checkpoint-minutes", type=float)
    parser.add_argument("--log-interval", type=int)
    parser.add_argument("--diagnostics", type=int, choices=[0, 1], help="1: predict writes the diagnostics of its pass")
    parser.set_defaults(**Execution().model_dump())
    parser.add_argument("--attempt", type=int, default=1, help="above 1: what no further attempt can mend is refused")
    parser.add_argument(
        "--shared-results",
        type=Path,
        default=os.environ.get(SHARED_RESULTS),
        help=f"folder `results` whose finished runs are taken; default: {SHARED_RESULTS}",
    )
    parser.add_argument(
        "--proposals-of", type=Path, help="predict-with: run.yaml of another run; default: the ground truth is added"
    )
    parser.add_argument("--stage", type=int, default=0, help="predict-with: its boxes after this stage")
    arguments = parser.parse_args(argv)
    if len(arguments.run) > 1 and not (arguments.command == "inspect" and arguments.each):
        parser.error("several runs: only inspect takes them, with --each")
    if arguments.gpus and arguments.processes > 1:
        parser.error("--processes: without --gpus, which starts a process for each GPU")
    return arguments


def job_of(
    arguments: argparse.Namespace, run: Run, device: torch.device, argv: Sequence[str], begun: Mapping[str, Any],
    interruption: Interruption,
) -> Job:  # fmt: skip
    """Put together what the command line asks for one of its runs."""
    execution = {name: getattr(arguments, name) for name in Execution.model_fields}
    execution["diagnostics"] = bool(arguments.diagnostics)
    return Job(
        command=arguments.command,
        run=run,
        out=RunFolder(arguments.out / run.id if arguments.each else arguments.out),
        data=DatasetFolder(arguments.data) if arguments.data else ResultsFolder(RESULTS).dataset(run.dataset.name),
        device=device,
        execution=validated(Execution, execution, "command line"),
        processes=arguments.gpus or arguments.processes,
        attempt=arguments.attempt,
        shared_results=arguments.shared_results,
        proposals_of=arguments.proposals_of,
        stage=arguments.stage,
        argv=tuple(argv),
        begun=begun,
        interruption=interruption,
    )


def beginning(argv: Sequence[str]) -> dict[str, Any]:
    """What of a result's making is known at its beginning: the project's state, the command line and the time."""
    return {
        "project": project_state(),
        "command": shlex.join(["python", "-m", "adapters", *argv]),
        "started": now(),
    }


def prepare_torch(gpus: int, threads: int) -> torch.device:
    """Set threads and arithmetic, join the group of processes if this is one of several; return its device."""
    torch.set_num_threads(threads)
    set_arithmetic(deterministic=not gpus)
    if gpus > torch.cuda.device_count():
        raise InputError(f"--gpus {gpus}: torch sees {torch.cuda.device_count()}; `cascadebench doctor` says more")
    return start_process_group("cuda" if gpus else "cpu")


def run_job(adapter: Adapter, job: Job) -> None:
    """Do what a job asks, and forget an earlier failure of it."""
    execute(partial(COMMANDS[job.command], adapter, job), job)
    if not is_one_of_several():
        forget_failure(job.out.path, job.command)


def run_each(adapter: Adapter, jobs: Sequence[Job]) -> int:
    """Do one job after the other, whatever fails; returns the worst exit code."""
    worst, printed = 0, set()
    for job in jobs:
        try:
            run_job(adapter, job)
        except Exception as error:
            code = exit_code(error)
            worst = max(worst, code)
            # Runs of one variant have its mistakes in common.
            note_failure(job.out.path, job.command, error, quietly=code == 2 and str(error) in printed)
            printed.add(str(error))
    return worst


def predict_checkpoint(argv: list[str]) -> int:
    """Run a checkpoint that was trained elsewhere; returns the exit code: 0, or 2 for wrong input."""
    job, begun = checkpoint_prediction.parse(argv), beginning(argv)
    try:
        device = prepare_torch(job.gpus, job.threads)
        adapter = load_adapter(job.framework)
        stock_model = importlib.import_module(f"adapters.{job.framework}.stock_model")
        recorded = circumstances(adapter, device, begun)
        made_with = {"framework": job.framework, "device": recorded["device"]} | recorded["versions"]
        checkpoint_prediction.predict_checkpoint(stock_model, job, device, made_with)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        stop_process_group()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for a failure (noted in ``failed.json``), 2 for wrong input."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[1:2] == ["predict-checkpoint"]:
        return predict_checkpoint(argv)
    if is_one_of_several():
        die_with_parent()
    arguments, begun, interruption = parse(argv), beginning(argv), Interruption()
    runs: list[Run] = []
    try:
        with interruption.watched("; the next attempt goes on from the last finished step"):
            runs = [read_own_run(path, arguments.framework) for path in arguments.run]
            check_arithmetic(runs, torch.backends.cpu.get_cpu_capability())
            device = prepare_torch(arguments.gpus, arguments.cpu_threads)
            adapter = load_adapter(arguments.framework)
            jobs = [job_of(arguments, run, device, argv, begun, interruption) for run in runs]
            if arguments.each:
                return run_each(adapter, jobs)
            run_job(adapter, jobs[0])
            return 0
    except (Stopped, Exception) as error:
        if is_one_of_several():
            report_to_parent(error)
        elif isinstance(error, Stopped):
            print(error, file=sys.stderr)
        else:
            # Without runs, or with a wrong proposal swap, no run has failed: the command line is wrong.
            swapped_wrongly = arguments.command == "predict-with" and exit_code(error) == 2
            of_run = runs and not arguments.each and not swapped_wrongly
            note_failure(arguments.out if of_run else None, arguments.command, error)
        return exit_code(error)
    finally:
        stop_process_group()


def exit_code(error: BaseException) -> int:
    """Of a command that ended with an exception: 128 and the signal, 2 for wrong input, 1 for any other failure."""
    if isinstance(error, Stopped):
        return error.exit_code
    return 2 if is_wrong_input(error) else 1


if __name__ == "__main__":
    sys.exit(main())
