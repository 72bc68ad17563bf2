"""``cascadebench doctor``: what is installed, and how to get what is missing."""

import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from cascadebench.core.configuration import PROJECT


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; `remedy` is a command or a sentence, empty when all is well."""

    subject: str
    state: str
    remedy: str = ""
    fatal: bool = False


PACKAGES = (
    "torch", "torchvision", "mmengine", "mmcv", "mmdet", "detectron2", "pycocotools", "pandas", "snakemake",
)  # fmt: skip


def find_packages() -> Iterator[Finding]:
    """Yield a finding per package that the pipeline needs."""
    providers = importlib.metadata.packages_distributions()
    for module in PACKAGES:
        if importlib.util.find_spec(module) is None:
            yield Finding(module, "missing", "make setup", fatal=True)
        elif module in providers:
            distributions = (f"{importlib.metadata.version(name)} ({name})" for name in sorted(set(providers[module])))
            yield Finding(module, ", ".join(distributions))
        else:
            yield Finding(module, "installed, from no known distribution")


def probe_frameworks() -> Iterator[Finding]:
    """Yield what the frameworks say of operators and GPUs, asked in a process of its own: nothing here imports one."""
    command = [sys.executable, "-m", "adapters.installation"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    remedies = {
        "GPUs": "Studies with `execution: gpus: 0` need none; for the others run on a machine with an NVIDIA driver.",
        "mmcv operators": "Enough for every detector here. Compiled ones: .venv/bin/pip install --no-build-isolation "
        "--no-deps --no-binary onedl-mmcv --force-reinstall onedl-mmcv (half an hour on 2 cores)",
        "Detectron2 operators": "Enough for every detector here. The official build is preferred when installed.",
    }
    for line in done.stdout.splitlines():
        subject, _, state = line.partition("|")
        if subject in remedies:
            well = "compiled" in state or (subject == "GPUs" and state != "none")
            yield Finding(subject, state, "" if well else remedies[subject])
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        yield Finding("frameworks", f"cannot be imported: {last}", "rm -rf .venv && make setup", fatal=True)


def examine(console: Console) -> int:
    """Print the diagnosis; returns 0, or 1 when something that every study needs is missing."""
    python = platform.python_version()
    findings = [Finding("Python", f"{python} ({platform.machine()}, {platform.system()})"), *find_packages()]
    if not any(finding.fatal for finding in findings):
        findings += probe_frameworks()
    table = Table("what", "state", "what to do", title="CascadeBench doctor")
    for finding in findings:
        style = "red" if finding.fatal else None
        table.add_row(finding.subject, finding.state, finding.remedy, style=style)
    console.print(table)
    return int(any(finding.fatal for finding in findings))
