"""What Snakemake itself costs before a study begins and after it is done.

    python -m benchmarks.workflow --runs 10 100 1000

A study of N runs is planned from nothing (``snakemake -n`` builds the graph of all jobs), and once more with every file
of it there and up to date. The files are made up: of them Snakemake looks at the times alone. Between the two it notes
every job in its own records (``snakemake --touch --forceall``, not timed), as it does when it runs a study; so the
second compares the parameters of every job too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from cascadebench.core.configuration import CONFIG, PROJECT
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study

VARIANTS_AND_FRAMEWORKS = 8
# Files of a run in the order in which they are made, and of a study.
RUN_FILES = (
    ("run.yaml",),
    ("controls.json", "cost.json"),
    ("trained.json",),
    ("detections.parquet", "proposals.parquet", "predicted.json", "localization.parquet", "recall.parquet",
     "nms_survivors.parquet"),
    ("ap.parquet", "error_kinds.parquet", "score_quality.parquet"),
)  # fmt: skip
STUDY_FILES = (
    "status.csv", "ap.csv", "ap_per_class.csv", "gaps.csv", "cost.csv", "intervals.csv", "verdicts.csv",
    "claim_terms.csv", "claim_samples.csv", "examples.json", "examples/1.jpg",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Wall and processor seconds of a command, and its peak memory in MB."""

    wall: float
    processor: float
    peak: float


def write_study(folder: Path, runs: int) -> Path:
    """Write a study of at least this many runs: the embedded one with more seeds."""
    study = yaml.safe_load((CONFIG / "studies" / "tiny.yaml").read_text())
    study |= {"name": f"runs{runs}", "seeds": list(range(-(-runs // VARIANTS_AND_FRAMEWORKS))), "claims": []}
    path = folder / f"runs{runs}.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def snakemake(study: Path, *arguments: str) -> Cost:
    """Run Snakemake on a study in the study's folder."""
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile"), "--cores", "2", "--quiet", "all",
        "--config", f"study={study}", *arguments,
    ]  # fmt: skip
    return command_cost(command, study.parent)


def command_cost(command: list[str], folder: Path) -> Cost:
    """Run a command in a folder; a failure ends the benchmark with its output."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        if status:
            output.seek(0)
            sys.exit(output.read())
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def make_files(folder: Path, study: Study) -> None:
    """Every file of the study, each made after what it is made from, so that nothing is to be done."""
    results = folder / "results"
    stages: list[list[Path]] = [
        [results / "datasets" / study.dataset.name / f"{name}.json" for name in ("lock", "train", "val")]
    ]
    stages += [[results / "runs" / run / name for run in study.run_ids for name in names] for names in RUN_FILES]
    stages.insert(3, [results / "studies" / study.name / "audit.passed"])
    stages.append([results / "studies" / study.name / name for name in STUDY_FILES])
    stages.append([folder / "reports" / f"{study.name}.html"])
    began = time.time() - 3600
    for number, paths in enumerate(stages):
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            for one in (path, path.parent):  # a folder may be an output too
                os.utime(one, (began + number, began + number))


def measured(runs: int) -> dict[str, Cost]:
    """Costs of planning a study of this many runs, and of finding that nothing is to be done."""
    with tempfile.TemporaryDirectory() as name:
        study = write_study(Path(name), runs)
        planned = snakemake(study, "--dry-run")
        make_files(study.parent, load_study(str(study)))
        # --touch alone finds nothing to be done and notes nothing. Many cores, as each round of jobs is planned anew.
        snakemake(study, "--touch", "--forceall", "--cores", "10000")
        if not any((study.parent / ".snakemake" / "metadata").iterdir()):
            sys.exit("Snakemake noted no job: there would be no parameters to compare with")
        report = study.parent / "reports" / f"{study.stem}.html"
        made = report.stat().st_mtime
        found = snakemake(study)
        if report.stat().st_mtime != made:
            sys.exit("Snakemake found something to do: the files that are made up here are not those of the rules")
        return {"plan": planned, "nothing to be done": found}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 100, 1000])
    chosen = parser.parse_args()
    table = Table("runs", "what", "s", "processor s", "peak MB", "ms per run", box=SIMPLE)
    for runs in chosen.runs:
        for what, cost in measured(runs).items():
            numbers = f"{cost.wall:.1f}", f"{cost.processor:.1f}", f"{cost.peak:.0f}", f"{1000 * cost.wall / runs:.0f}"
            table.add_row(str(runs), what, *numbers)
    Console(width=120, highlight=False).print(table)


if __name__ == "__main__":
    main()
