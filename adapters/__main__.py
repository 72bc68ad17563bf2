"""``python -m adapters FRAMEWORK inspect|train|predict|predict-with --run run.yaml --out DIR``.

The command line: arguments, devices, and what happens when something fails. What the commands do is in
:mod:`adapters.commands`.
"""

import argparse
import importlib
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adapters.commands import COMMANDS, circumstances, load_adapter, read_own_run
from adapters.prediction import checkpoint_prediction
from adapters.run_lease import execute
from adapters.training.arithmetic import set_arithmetic
from adapters.training.distributed import is_one_of_several, start_process_group, stop_process_group
from adapters.training.processes import end_with_starter, leave_word
from cascadebench.core.errors import InputError
from cascadebench.execution.failures import forget_failure, is_wrong_input, note_failure
from cascadebench.execution.interruption import Interruption, Stopped
from cascadebench.execution.provenance import now, project_state
from cascadebench.execution.shared_runs import SHARED_RESULTS


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; a wrong one exits with code 2."""
    parser = argparse.ArgumentParser(prog="python -m adapters", description=__doc__.splitlines()[0])
    parser.add_argument("framework")
    parser.add_argument("command", choices=list(COMMANDS))
    parser.add_argument("--run", type=Path, required=True, nargs="+", help="the run, run.yaml; inspect takes several")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--each", action="store_true", help="--out is the folder above the runs' folders")
    parser.add_argument("--data", type=Path, help="prepared dataset; default: results/datasets/<name of the dataset>")
    parser.add_argument(
        "--gpus", type=int, default=0, help="GPUs; 0: the CPU; above 1 training starts a process on each"
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="without GPUs: processes that train every step together"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; 1 gives the same bytes on every run")
    parser.add_argument("--accumulation", type=int, default=1, help="passes of every process that make up one step")
    parser.add_argument("--workers", type=int, default=0, help="processes that read training images")
    parser.add_argument("--checkpoint-interval", type=int, default=1000)
    parser.add_argument("--checkpoint-minutes", type=float, default=15.0)
    parser.add_argument("--attempt", type=int, default=1, help="above 1: what no further attempt can mend is refused")
    parser.add_argument(
        "--shared-results",
        type=Path,
        default=os.environ.get(SHARED_RESULTS),
        help=f"folder `results` whose finished runs are taken; default: {SHARED_RESULTS}",
    )
    parser.add_argument("--log-interval", type=int, default=20)
    parser.add_argument(
        "--diagnostics", type=int, choices=[0, 1], default=1, help="1: predict writes the diagnostics of its pass"
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
    arguments.processes = arguments.gpus or arguments.processes
    arguments.folder = None
    arguments.words = sys.argv[1:] if argv is None else argv
    arguments.begun = begun(arguments.words)
    return arguments


def begun(words: list[str]) -> dict[str, Any]:
    """What of a result's making is known at its beginning: the project's state, the command line and the time."""
    return {
        "project": project_state(),
        "command": shlex.join(["python", "-m", "adapters", *words]),
        "started": now(),
    }


def prepare_torch(arguments: argparse.Namespace) -> None:
    """Threads, arithmetic, and the device of this process as ``arguments.device``."""
    torch.set_num_threads(arguments.threads)
    set_arithmetic(deterministic=not arguments.gpus)
    if arguments.gpus > torch.cuda.device_count():
        raise InputError(
            f"--gpus {arguments.gpus}: torch sees {torch.cuda.device_count()}; `cascadebench doctor` says more"
        )
    arguments.device = start_process_group("cuda" if arguments.gpus else "cpu")


def run_command(arguments: argparse.Namespace) -> int:
    """Run the command on every run that the command line names; returns the worst exit code of several."""
    runs = [read_own_run(path, arguments.framework) for path in arguments.run]
    if not arguments.each:
        arguments.folder = arguments.out  # from here on it is this run that fails
    prepare_torch(arguments)
    adapter = load_adapter(arguments.framework)
    above, worst, told = arguments.out, 0, set()
    for run in runs:
        arguments.folder = arguments.out = above / run.id if arguments.each else above
        arguments.data = arguments.data or Path("results/datasets") / run.dataset.name
        try:
            execute(partial(COMMANDS[arguments.command], adapter, run, arguments), arguments)
            if not is_one_of_several():
                forget_failure(arguments.out, arguments.command)
        except Exception as error:
            if not arguments.each:
                raise
            code = exit_code(error)
            worst = max(worst, code)
            # Runs of one variant have its mistakes in common.
            note_failure(arguments.folder, arguments.command, error, quietly=code == 2 and str(error) in told)
            told.add(str(error))
    return worst


def predict_checkpoint(words: list[str]) -> int:
    """Run a checkpoint that was trained elsewhere; returns the exit code: 0, or 2 for wrong input."""
    arguments = checkpoint_prediction.parse(words)
    arguments.begun = begun(words)
    try:
        prepare_torch(arguments)
        adapter = load_adapter(arguments.framework)
        stock_model = importlib.import_module(f"adapters.{arguments.framework}.stock_model")
        found = circumstances(adapter, arguments)
        made_with = {"framework": arguments.framework, "device": found["device"]} | found["versions"]
        checkpoint_prediction.predict_checkpoint(stock_model, arguments, made_with)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        stop_process_group()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for a failure (noted in ``failed.json``), 2 for wrong input."""
    words = sys.argv[1:] if argv is None else argv
    if words[1:2] == ["predict-checkpoint"]:
        return predict_checkpoint(words)
    if is_one_of_several():
        end_with_starter()
    arguments = parse(argv)
    arguments.interruption = Interruption()
    try:
        with arguments.interruption.watched("; the next attempt goes on from the last finished step"):
            return run_command(arguments)
    except (Stopped, Exception) as error:
        if is_one_of_several():
            leave_word(error)
        elif isinstance(error, Stopped):
            print(error, file=sys.stderr)
        else:
            note_failure(folder_of_failure(arguments, error), arguments.command, error)
        return exit_code(error)
    finally:
        stop_process_group()


def folder_of_failure(arguments: argparse.Namespace, error: BaseException) -> Path | None:
    """Folder of the run that a failure belongs to; None: no run has failed, the command line is wrong."""
    swapped_wrongly = arguments.command == "predict-with" and exit_code(error) == 2
    return None if swapped_wrongly else arguments.folder


def exit_code(error: BaseException) -> int:
    """Of a command that ended with an exception: 128 and the signal, 2 for wrong input, 1 for any other failure."""
    if isinstance(error, Stopped):
        return error.exit_code
    return 2 if is_wrong_input(error) else 1


if __name__ == "__main__":
    sys.exit(main())
