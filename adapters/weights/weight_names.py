"""Common names of a run's weights: those of the framework's table, and those of layers that its variant adds."""

import re
from collections.abc import Callable, Mapping

from adapters.detector.variant_module import variant_module
from cascadebench.core.errors import InputError
from cascadebench.determinism.initial_weights import OWN_NAMES
from cascadebench.study.run import Run

TENSORS = ("weight", "bias", "running_mean", "running_var")


def common_name(table: Mapping[str, str | None], name: str) -> str | None:
    """Translate a name of a detector's state dict by a framework's table; None for what holds no weights.

    Parameters
    ----------
    table : mapping of str to str or None
        From a pattern of a module's name to the common one: ``{2}`` stands for the pattern's second group, ``{1+1}``
        for the number of the first and one more. None: the pattern is of whole names of tensors that are no weights.

    Raises
    ------
    ValueError
        If the table has no such name: a part was added to a detector and not to the table.
    """
    module, _, tensor = name.rpartition(".")
    if tensor == "num_batches_tracked":
        return None
    for pattern, common in table.items():
        if common is None and re.fullmatch(pattern, name):
            return None
        if common and tensor in TENSORS and (found := re.fullmatch(pattern, module)):
            return f"{_expanded(common, found)}.{tensor}"
    raise ValueError(f"no common name for {name!r}")


def _expanded(common: str, found: re.Match) -> str:
    """Put what a pattern has found into a common name."""

    def part(place: re.Match) -> str:
        return str(int(found[int(place[1])]) + int(place[2])) if place[2] else found[int(place[1])]

    return re.sub(r"\{(\d)([+-]\d)?\}", part, common)


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
