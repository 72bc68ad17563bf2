"""Cards of variants and frameworks: what exists, which options it takes and what it may change."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge
from pydantic import model_validator

from cascadebench.configuration import PROJECT, Configuration, read_model, read_named
from cascadebench.errors import InputError

ADAPTERS = PROJECT / "adapters"
Value = bool | int | float | str


class Option(Configuration):
    """One option of a variant."""

    description: str
    type: Literal["boolean", "integer", "number", "choice"]
    default: Value
    choices: tuple[str, ...] = ()
    """Allowed values of a `choice`."""
    minimum: float | None = None
    maximum: float | None = None

    @model_validator(mode="after")
    def _default_allowed(self) -> Self:
        problem = self.problem_with(self.default)
        if problem:
            raise ValueError(f"default {self.default!r}: {problem}")
        return self

    def problem_with(self, value: Any) -> str | None:
        """Say what is allowed if `value` is not, else None."""
        if self.type == "boolean":
            return None if isinstance(value, bool) else "true or false is allowed"
        if self.type == "choice":
            return None if value in self.choices else f"allowed: {', '.join(self.choices)}"
        number = isinstance(value, int) or (self.type == "number" and isinstance(value, float))
        if not number or isinstance(value, bool):
            return "a whole number is allowed" if self.type == "integer" else "a number is allowed"
        if (self.minimum is not None and value < self.minimum) or (self.maximum is not None and value > self.maximum):
            return f"allowed: {self.minimum} to {self.maximum}"
        return None


class VariantCard(Configuration):
    """A detector: what it is, which options it takes, what it may change in a run's controls."""

    name: str
    title: str
    description: str
    revision: Annotated[int, Ge(1)]
    """Raised when the numbers that a run gives may change."""
    frameworks: tuple[str, ...]
    options: dict[str, Option] = {}
    stages: int | str
    """Number of heads, or the name of the integer option that says it."""
    headline: str
    """Label of the test stage that stands for the variant in a comparison; ``T`` stands for the number of stages."""
    treatment: tuple[str, ...]
    """Names of the controls that the variant may change against the baseline."""
    sources: tuple[str, ...]
    readings: tuple[str, ...] = ()
    """What this project decided where the sources are silent or disagree."""

    def complete_options(self, given: dict[str, Any], asked_by: str) -> dict[str, Any]:
        """Fill `given` with defaults; an unknown option or a value that is not allowed raises InputError."""
        for name, value in given.items():
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise InputError(f"{asked_by}: {self.name} has no option {name!r}; options: {known}")
            problem = self.options[name].problem_with(value)
            if problem:
                raise InputError(f"{asked_by}: {self.name}.{name}: {value!r}: {problem}")
        return {name: given.get(name, option.default) for name, option in self.options.items()}

    def number_of_stages(self, options: dict[str, Any]) -> int:
        """Heads of the variant with these (complete) options."""
        return options[self.stages] if isinstance(self.stages, str) else self.stages

    def headline_stage(self, options: dict[str, Any]) -> str:
        """Label of the test stage that stands for the variant in a comparison."""
        stages = self.number_of_stages(options)
        return "(1,1)" if stages == 1 else self.headline.replace("T", str(stages))


class FrameworkCard(Configuration):
    """An adapter's card, ``adapters/<name>/card.yaml``."""

    name: str
    title: str
    revision: Annotated[int, Ge(1)]
    """Raised when the numbers that a run gives may change."""


def load_variant_card(name: str, asked_by: str = "variants", folder: Path = ADAPTERS / "variants") -> VariantCard:
    """Read ``adapters/variants/<name>.yaml``."""
    return read_named(VariantCard, folder, name, asked_by)


def load_framework_card(name: str, asked_by: str = "frameworks", folder: Path = ADAPTERS) -> FrameworkCard:
    """Read ``adapters/<name>/card.yaml``."""
    known = sorted(path.parent.name for path in folder.glob("*/card.yaml"))
    if name not in known:
        raise InputError(f"{asked_by}: unknown framework {name!r}; known: {', '.join(known)}")
    return read_model(FrameworkCard, folder / name / "card.yaml")
