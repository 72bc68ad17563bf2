"""The module with which a variant changes a framework's base configuration."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from cascadebench.errors import InputError
from cascadebench.run import Run


def variant_module(run: Run) -> ModuleType:
    """Import the module of the run's variant for the run's framework.

    It is ``adapters.<framework>.variants.<name>``, or ``<framework>.py`` in the folder of a variant that lives outside
    the project.

    Raises
    ------
    InputError
        If the folder of a variant from outside has no such module, or the module has no ``configure``.
    """
    variant = run.variant
    if variant.folder is None:
        return importlib.import_module(f"adapters.{run.framework}.variants.{variant.name}")
    path = Path(variant.folder) / f"{run.framework}.py"
    # A name of its own: the file is called like the framework.
    name = f"cascadebench_variant_{variant.name}_{run.framework}"
    if name not in sys.modules:
        if not path.is_file():
            raise InputError(f"variant {variant.name}: no file {path}")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    if not hasattr(sys.modules[name], "configure"):
        raise InputError(f"{path}: a function configure(config, run) is expected")
    return sys.modules[name]
