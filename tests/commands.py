"""Commands in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

from cascadebench.core.configuration import PROJECT


def call(*words: object, module: str = "cascadebench", folder: Path = PROJECT, **environment: str) -> CompletedProcess:
    """Run ``python -m MODULE WORDS`` in a folder."""
    command = [sys.executable, "-m", module, *map(str, words)]
    environment = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def snakemake(study: object, folder: Path, *more: object, cores: int = 1) -> CompletedProcess:
    """Run Snakemake on a study, with its results in a folder."""
    words = ["--snakefile", PROJECT / "Snakefile", "--workflow-profile", PROJECT / "profiles" / "default"]
    words += ["--directory", folder, "--cores", cores, *more, "--config", f"study={study}"]
    return call(*words, module="snakemake", folder=folder, PYTHONWARNINGS="ignore")
