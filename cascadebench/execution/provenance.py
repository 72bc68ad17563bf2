"""What a result came from beside its configuration: the state of this project's code, the machine, the time."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from cascadebench import __version__
from cascadebench.core.configuration import PROJECT


def project_state(folder: Path = PROJECT) -> dict[str, Any]:
    """Version of the project, and of its checkout the commit and whether tracked files were changed since.

    Returns
    -------
    dict
        ``version``; ``commit`` (40 hex digits) and ``changed`` (bool), both None where `folder` is no checkout of its
        own or git is not there.
    """
    top, commit = _git(folder, "rev-parse", "--show-toplevel"), _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    # Installed inside another project's checkout, git would answer for that one.
    own = top is not None and commit is not None and Path(top).resolve() == folder.resolve()
    return {
        "version": __version__,
        "commit": commit if own else None,
        "changed": bool(changes) if own and changes is not None else None,
    }


def _git(folder: Path, *words: str) -> str | None:
    """What a git command prints; None if it fails."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def hardware() -> dict[str, Any]:
    """Machine, system, and the name and number of its processors."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": _processor(Path("/proc/cpuinfo")),
        "processors": os.cpu_count(),
    }


def _processor(description: Path) -> str:
    """Name of the processor as Linux describes it, or as Python knows it."""
    if description.is_file():
        for line in description.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
