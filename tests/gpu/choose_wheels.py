"""Which wheels a GPU machine with torch lacks, and how they are divided; called by wheels.sh.

``choose`` prints pins of requirements.lock for Python 3.12 on Linux, ``split`` moves wheels into folders ``part-1``,
``part-2``, ... of a greatest size, ``missing`` names what the running Python still lacks.
"""

import argparse
import re
import sys
from importlib import metadata
from pathlib import Path

TARGET = {
    "python_full_version": "3.12.0", "python_version": "3.12", "sys_platform": "linux", "platform_machine": "x86_64",
}  # fmt: skip
WITH_TORCH = re.compile("torch|torchvision|triton|(nvidia|cuda)-.*|filelock|fsspec|sympy|mpmath|networkx")
"""torch's own wheels and what they bring along."""
NOT_NEEDED = re.compile(
    "playwright|axe-playwright-python|greenlet|ruff|uv|snakefmt|black|shfmt-py|pytokens|mypy-extensions|pathspec|"
    "pytest-xdist|execnet|hypothesis|sortedcontainers|hotcoco|torchmetrics|lightning-utilities|"
    "snakemake-executor-plugin-slurm.*"
)
"""Browsers, style, other tests and clusters: a run on one GPU machine touches none of them."""
ALWAYS = {"setuptools"}
"""Taken along even if the machine has some version: the frameworks import pkg_resources, which 82 removed."""


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_wanted(name: str) -> bool:
    """Whether a package of the lock is one that a GPU run needs beside torch."""
    return not (WITH_TORCH.fullmatch(name) or NOT_NEEDED.fullmatch(name))


def names_in(path: Path) -> set[str]:
    """Names of the packages in what ``pip list`` or ``pip freeze`` printed, or in a list of names."""
    words = (re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line) for line in path.read_text().splitlines())
    return {canonical(word[0]) for word in words if word}


def chosen(lock: Path, present: set[str]) -> list[str]:
    """Pins that the machine lacks."""
    from packaging.requirements import Requirement  # here, as ``missing`` must run where it is not installed yet

    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    pins = []
    for requirement in map(Requirement, lines):
        name = canonical(requirement.name)
        wanted = is_wanted(name) and (name not in present or name in ALWAYS)
        if wanted and (requirement.marker is None or requirement.marker.evaluate(TARGET)):
            pins.append(f"{name}{requirement.specifier}")
    return pins


def missing(lock: Path) -> list[str]:
    """Names of the lock that are not installed here, in any version; those for Windows apart."""
    lines = [line for line in lock.read_text().splitlines() if "==" in line and "win32" not in line]
    names = sorted({canonical(line.partition("==")[0]) for line in lines})
    installed = {canonical(one.metadata["Name"]) for one in metadata.distributions()}
    return [name for name in names if is_wanted(name) and name not in installed]


def split(folder: Path, limit: int) -> list[list[Path]]:
    """Divide wheels among as few parts as the largest-first rule finds; raises SystemExit for a wheel above `limit`."""
    parts: list[list[Path]] = []
    for wheel in sorted(folder.glob("*.whl"), key=lambda path: (-path.stat().st_size, path.name)):
        size = wheel.stat().st_size
        if size > limit:
            sys.exit(f"error: {wheel.name}: {size / 2**20:.1f} MiB alone; --limit allows {limit / 2**20:.0f}")
        fitting = (part for part in parts if sum(one.stat().st_size for one in part) + size <= limit)
        part = next(fitting, None)
        if part is None:
            parts.append(part := [])
        part.append(wheel)
    return parts


def main() -> None:
    """Choose or split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    choose = commands.add_parser("choose")
    choose.add_argument("lock", type=Path)
    choose.add_argument("--present", type=Path)
    lacking = commands.add_parser("missing")
    lacking.add_argument("lock", type=Path)
    divide = commands.add_parser("split")
    divide.add_argument("folder", type=Path)
    divide.add_argument("--limit", type=float, required=True, help="MiB")
    arguments = parser.parse_args()
    if arguments.command == "choose":
        print("\n".join(chosen(arguments.lock, names_in(arguments.present) if arguments.present else set())))
        return
    if arguments.command == "missing":
        if names := missing(arguments.lock):
            sys.exit(f"not installed yet: {', '.join(names)}")
        return
    for number, part in enumerate(split(arguments.folder, int(arguments.limit * 2**20)), start=1):
        size = sum(wheel.stat().st_size for wheel in part) / 2**20
        target = arguments.folder / f"part-{number}"
        target.mkdir()
        for wheel in part:
            wheel.rename(target / wheel.name)
        largest = ", ".join(wheel.name.split("-")[0] for wheel in part[:4])
        print(f"{target}: {len(part)} wheels, {size:.1f} MiB (largest: {largest})")


if __name__ == "__main__":
    main()
