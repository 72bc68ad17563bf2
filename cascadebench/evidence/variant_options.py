"""Options of variants that published values and claims name."""

from collections.abc import Mapping
from functools import cache

from cascadebench.variant import Value, VariantCard
from cascadebench.variant_catalog import find_variant


@cache
def _card(name: str, asked_by: str) -> VariantCard:
    return find_variant(name, asked_by).card


def complete_options(variant: str, options: Mapping[str, Value], asked_by: str) -> dict[str, Value]:
    """Fill the options of a variant with its card's defaults.

    Parameters
    ----------
    asked_by : str
        File and place that hold the name, for the message.

    Raises
    ------
    InputError
        If there is no such variant, it has no such option, or a value is not allowed.
    """
    return _card(variant, f"{asked_by}: variant").complete_options(dict(options), f"{asked_by}: options")
