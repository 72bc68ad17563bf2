"""What a study's tables and its report cost, by the number of its runs.

    make demo
    python -m benchmarks.report --runs 10 100 1000 [--profile]

The runs are made up: every run of the larger study is a link to the folder of the embedded study's run of the same
detector, as ``make demo`` leaves it. Seconds and peak memory are those of ``cascadebench aggregate`` and ``cascadebench
report``, each in a process of its own. With ``--profile`` it is also printed where the time goes.
"""

import argparse
import cProfile
import pstats
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.workflow import Cost, command_cost, write_study
from cascadebench.core.configuration import PROJECT
from cascadebench.report.page import write_report
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study
from cascadebench.tables.aggregate import aggregate

CONSOLE = Console(width=120, highlight=False)


def link_runs(study: Study, source: Path, results: Path) -> None:
    """Fill a results folder with links to the embedded study's runs, and copies of what is the study's own."""
    embedded = load_study("tiny")
    folders = {(run.variant.name, run.framework): source / "runs" / run.id for run in (p.run for p in embedded.runs)}
    absent = [str(folder) for folder in folders.values() if not folder.is_dir()]
    if absent:
        sys.exit(f"{absent[0]} is missing; `make demo` makes it")
    (results / "runs").mkdir(parents=True)
    for planned in study.runs:
        run = planned.run
        (results / "runs" / run.id).symlink_to(folders[run.variant.name, run.framework].resolve())
    (results / "studies" / study.name).mkdir(parents=True)
    for name in ("audit.json", "intervals.csv"):
        shutil.copy(source / "studies" / embedded.name / name, results / "studies" / study.name / name)
    (results / "datasets").symlink_to((source / "datasets").resolve())


def measured(command: str, path: Path, results: Path, *more: str) -> Cost:
    """Cost of a command of ``cascadebench`` on a study."""
    arguments = [sys.executable, "-m", "cascadebench", command, str(path), "--results", str(results), *more]
    return command_cost(arguments, PROJECT)


def print_profile(words: str, work: Callable[..., None], *arguments: object) -> None:
    """Print the functions in which some work spends most of its time, those that they call included."""
    profile = cProfile.Profile()
    profile.runcall(work, *arguments)
    CONSOLE.print(words)
    pstats.Stats(profile).strip_dirs().sort_stats("cumulative").print_stats(25)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--results", type=Path, default=PROJECT / "results", help="with the embedded study, done")
    parser.add_argument("--profile", action="store_true")
    chosen = parser.parse_args()
    table = Table("runs", "command", "s", "processor s", "peak MB", "ms per run", box=SIMPLE)
    for number in chosen.runs:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path, results, page = write_study(folder, number), folder / "results", folder / "report.html"
            study = load_study(str(path))
            link_runs(study, chosen.results, results)
            for command, more in (("aggregate", ()), ("report", ("--out", str(page)))):
                cost = measured(command, path, results, *more)
                numbers = f"{cost.wall:.1f}", f"{cost.processor:.1f}", f"{cost.peak:.0f}"
                table.add_row(str(len(study.runs)), command, *numbers, f"{1000 * cost.wall / len(study.runs):.0f}")
            if chosen.profile:
                print_profile(f"{len(study.runs)} runs: aggregate", aggregate, study, results)
                print_profile(f"{len(study.runs)} runs: report", write_report, study, results, page)
    CONSOLE.print(table)


if __name__ == "__main__":
    main()
