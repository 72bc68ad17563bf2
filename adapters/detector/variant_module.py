"""The module with which a variant changes a framework's base configuration."""

import importlib
import sys
import traceback
import zlib
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

from cascadebench.core.errors import InputError
from cascadebench.study.run import ChosenVariant, Run


def variant_module(run: Run) -> ModuleType:
    """Import the module of the run's variant for the run's framework.

    It is ``<framework>.py`` in the variant's folder.

    Raises
    ------
    InputError
        If there is no such module, it cannot be imported, or it has no ``configure``.
    """
    path = run.variant.home / f"{run.framework}.py"
    if not path.is_file():
        raise InputError(f"variant {run.variant.name}: no file {path}")
    try:
        module = importlib.import_module(f"{_package(run.variant)}.{run.framework}")
    except InputError:
        raise
    except Exception as error:  # whatever somebody's module may raise
        raise InputError(f"{_place(error, path)}: {type(error).__name__}: {_message(error)}") from error
    if not hasattr(module, "configure"):
        raise InputError(f"{path}: a function configure(config, run) is expected")
    return module


def variant_reference(run: Run) -> ModuleType | None:
    """Import ``reference.py`` of the run's variant, which computes plainly what its card says; None: there is none."""
    if not (run.variant.home / "reference.py").is_file():
        return None
    return importlib.import_module(f"{_package(run.variant)}.reference")


def _package(variant: ChosenVariant) -> str:
    """Name of the package that a variant's folder is, so that its modules import each other; make one if need be.

    A folder outside the project cannot be found by its own name: its modules are called like frameworks, and two
    folders may have one name.
    """
    if variant.folder is None:
        return f"adapters.variants.{variant.name}"
    package = f"cascadebench_variant_{variant.name}_{zlib.crc32(variant.folder.encode()):08x}"
    if package not in sys.modules:
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [variant.folder]
        sys.modules[package] = module_from_spec(spec)
    return package


def _place(error: Exception, path: Path) -> str:
    """File and line of an error: the last of the variant's own lines that led to it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    lines = traceback.extract_tb(error.__traceback__)
    own = [line for line in lines if Path(line.filename).is_relative_to(path.parent)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else str(path)


def _message(error: Exception) -> str:
    return str(error.msg if isinstance(error, SyntaxError) else error)
