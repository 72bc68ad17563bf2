"""Options of variants that published values and claims name."""

from collections.abc import Mapping
from functools import cache

from cascadebench.core.errors import InputError
from cascadebench.detectors.cards import Value, VariantCard
from cascadebench.detectors.variant_catalog import find_variant, own_variants


@cache
def _card(name: str) -> VariantCard:
    return find_variant(name, "variants").card


def complete_options(variant: str, options: Mapping[str, Value], asked_by: str) -> dict[str, Value]:
    """Fill the options of a variant with its card's defaults.

    Parameters
    ----------
    asked_by : str
        File and place that hold the name, for the message.

    Raises
    ------
    InputError
        If the project has no such variant, it has no such option, or a value is not allowed.
    """
    if variant not in own_variants():
        raise InputError(f"{asked_by}: variant: unknown variant {variant!r}; there are: {', '.join(own_variants())}")
    return _card(variant).complete_options(dict(options), f"{asked_by}: options")
