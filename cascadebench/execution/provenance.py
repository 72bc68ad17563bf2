"""What a result came from beside its configuration: the project's code, the installed packages, the machine."""

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from cascadebench import __version__
from cascadebench.core.configuration import PROJECT
from cascadebench.core.files import canonical_json, sha256_of

LOCKS = ("requirements.lock", "detectron2.lock")
"""Files of the project that the packages are installed by."""


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
    return _printed(["git", "-C", str(folder), *words])


def _printed(command: list[str]) -> str | None:
    """What a command prints; None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def installed() -> dict[str, Any]:
    """Version of every installed package, and the digests of the lock files that they should come from.

    Returns
    -------
    dict
        ``packages`` (name as on the package index, in lower case and with hyphens: version), their digest
        ``packages_sha256``, and ``locks`` (file name: SHA-256, None if the file is not there). A package whose files
        were edited where they lie is not told from one as it came.
    """
    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():  # in the order in which Python looks for modules
        name = distribution.metadata.get("Name")
        if name:
            versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    packages = dict(sorted(versions.items()))
    digest = hashlib.sha256(canonical_json(packages).encode()).hexdigest()
    locks = {name: sha256_of(PROJECT / name) if (PROJECT / name).is_file() else None for name in LOCKS}
    return {"packages": packages, "packages_sha256": digest, "locks": locks}


def gpu_driver() -> str | None:
    """Version of the NVIDIA driver, such as ``550.54.15``; None if it cannot be asked for."""
    found = _printed(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    return found.splitlines()[0].strip() if found else None


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
