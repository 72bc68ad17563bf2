"""Portable arithmetic: the libraries under torch take the same kernels on every processor with AVX2.

Torch (ATen), oneDNN and MKL choose kernels by the processor's instruction sets, and add up in another order in each.
All three read what they may use from the environment, once, when they are loaded: nothing here imports torch.
"""

import os
import platform
import sys
from argparse import ArgumentError, ArgumentParser
from collections.abc import Iterable, Sequence
from pathlib import Path

from cascadebench.core.errors import InputError
from cascadebench.study.run import Run, read_run

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    # The only branch of MKL that is promised to be the same on every maker's processors.
    "MKL_CBWR": "COMPATIBLE",
}
"""Environment of a process with portable arithmetic; it replaces what the user's environment says."""
NEEDED = ("avx2", "fma")


def choose_arithmetic(argv: Sequence[str]) -> None:
    """Set the environment that the runs on a command line ask for; begins anew where torch was loaded already.

    What cannot be read, or not be done, the command itself refuses: here nothing is said.
    """
    parser = ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--run", type=Path, nargs="+", default=[])
    try:
        runs = [read_run(path) for path in parser.parse_known_args(argv)[0].run]
    except (ArgumentError, InputError):
        return
    if not asked_for(runs) or missing_instructions() or PORTABLE.items() <= os.environ.items():
        return
    os.environ.update(PORTABLE)
    if "torch" in sys.modules:  # by a site's own start-up file, say
        os.execv(sys.executable, [sys.executable, "-m", "adapters", *argv])


def asked_for(runs: Iterable[Run]) -> bool:
    """Whether one of the runs asks for portable arithmetic; beside it one with native arithmetic has it, too."""
    return any(run.protocol.arithmetic == "portable" for run in runs)


def missing_instructions(description: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Names of the instruction sets that portable arithmetic needs and this processor, as Linux describes it, has not.

    Where nothing describes it, those of another machine than x86-64 are missing.
    """
    if description.is_file():
        for line in description.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "flags":
                return [name for name in NEEDED if name not in value.split()]
    return [] if platform.machine() in ("x86_64", "AMD64") else list(NEEDED)


def check_arithmetic(runs: Iterable[Run], capability: str) -> None:
    """Refuse a process that does not compute as one of its runs asks.

    Parameters
    ----------
    capability : str
        What torch says that its own kernels use: ``torch.backends.cpu.get_cpu_capability()``.

    Raises
    ------
    InputError
        If a run asks for portable arithmetic and the processor has not what it needs, or the process began without it.
    """
    for run in runs:
        where = f"protocol {run.protocol.name}: arithmetic: portable"
        if run.protocol.arithmetic == "portable" and (missing := missing_instructions()):
            needs = f"needs a processor with AVX2 and FMA, this one is without {' and '.join(missing).upper()}"
            raise InputError(f"{where}: {needs}; `arithmetic: native` runs here, with this machine's own numbers")
        if run.protocol.arithmetic == "portable" and not in_effect(capability):
            wrong = [
                f"{name}={os.environ.get(name, '')}" for name in PORTABLE if os.environ.get(name) != PORTABLE[name]
            ]
            raise InputError(
                f"{where}: is not in effect: torch was loaded with {', '.join(wrong) or f'capability {capability}'}; "
                "run it by `python -m adapters`"
            )


def in_effect(capability: str) -> bool:
    """Whether this process computes portably: the environment asks for it, and torch's own kernels are AVX2's."""
    return PORTABLE.items() <= os.environ.items() and capability == "AVX2"
