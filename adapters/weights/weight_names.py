"""Common names of a run's weights: those of the framework's table, and those of layers that its variant adds."""

from collections.abc import Callable

from adapters.detector.variant_module import variant_module
from cascadebench.core.errors import InputError
from cascadebench.determinism.initial_weights import OWN_NAMES
from cascadebench.study.run import Run


def with_own_names(table: Callable[[str], str | None], run: Run) -> Callable[[str], str | None]:
    """Let the run's variant name the layers that a framework's table of names does not know.

    Parameters
    ----------
    table : callable
        From a name of a model's state dict to the common one; raises ValueError where it has none.

    Returns
    -------
    callable
        The same, which asks the function ``common_name`` of the variant's module where the table has no name. It raises
        InputError if the variant gives none that begins with :data:`OWN_NAMES`.
    """

    def common_name(name: str) -> str | None:
        try:
            return table(name)
        except ValueError:
            return _own_name(name, run)

    return common_name


def _own_name(name: str, run: Run) -> str:
    """Ask the variant's module for a common name."""
    module = variant_module(run)
    own = module.common_name(name) if hasattr(module, "common_name") else None
    if not isinstance(own, str) or not own.startswith(OWN_NAMES):
        raise InputError(
            f"{module.__file__}: the weight {name!r} has no common name; a function common_name(name) must give it one "
            f"that begins with {OWN_NAMES!r}, found {own!r} (docs/adding-a-variant.md, New layers)"
        )
    return own
