"""Cards of variants and frameworks: what exists, which options it takes and what it may change."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge
from pydantic import model_validator

from cascadebench.core.configuration import PROJECT, Configuration, read_model
from cascadebench.core.errors import InputError

ADAPTERS = PROJECT / "adapters"
VARIANTS = ADAPTERS / "variants"
Value = bool | int | float | str | None


class Option(Configuration):
    """One option of a variant."""

    description: str
    type: Literal["boolean", "integer", "number", "choice"]
    default: Value
    """Null: nothing is given; the description says what happens then."""
    choices: tuple[str, ...] = ()
    """Allowed values of a `choice`."""
    minimum: float | None = None
    maximum: float | None = None
    treatment: tuple[str, ...] = ()
    """Controls that a value other than the default may change, beside those of the card."""
    needs: dict[str, Value] = {}
    """Values that other options must have beside a value other than the default."""
    reading: Literal["not given", "sources disagree"] | None = None
    """Why its value is a reading of the sources, which every verdict on the variant names: they do not give it, or they
    disagree. Null: another value is another detector, not another reading of the same."""

    @model_validator(mode="after")
    def _default_allowed(self) -> Self:
        problem = self.problem_with(self.default)
        if problem:
            raise ValueError(f"default {self.default!r}: {problem}")
        return self

    def problem_with(self, value: Any) -> str | None:
        """Say what is allowed if `value` is not, else None."""
        if value is None and self.default is None:
            return None
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


class TrainedAs(Configuration):
    """A variant whose training another one uses."""

    variant: str
    options: dict[str, Value] = {}


class VariantCard(Configuration):
    """A detector: what it is, which options it takes, what it may change in a run's controls."""

    name: str
    title: str
    description: str
    revision: Annotated[int, Ge(1)]
    """Raised when the numbers that a run gives may change."""
    frameworks: tuple[str, ...]
    options: dict[str, Option] = {}
    stages: int | str = 1
    """Number of regressors in a row, or the name of the integer option that says it."""
    classifiers: int | str | None = None
    """Number of classifiers, or the name of the integer option that says it; null: one per stage."""
    heads: int | None = None
    """Number of heads that are trained; null: one for every stage and every classifier."""
    masks: bool = False
    """Whether it predicts a mask for every detection; then the dataset must have segmentations."""
    trained_as: TrainedAs | None = None
    """The variant whose trained weights it uses; null: it is trained itself."""
    headline: str = "(T,1-C) probabilities"
    """Label of the test stage that stands for the variant in a comparison; ``T`` stands for the number of stages and
    ``C`` for the number of classifiers. With one classifier it is ``(T,1)``."""
    treatment: tuple[str, ...]
    """Names of the controls that the variant may change against the baseline."""
    values: dict[str, Any] = {}
    """Values that controls of the treatment must have, where the library cannot derive them from the options: as read
    back, or ``unchecked`` for a control that is only compared between frameworks and seeds."""
    sources: tuple[str, ...]
    readings: tuple[str, ...] = ()
    """What this project decided where the sources are silent or disagree."""

    @model_validator(mode="after")
    def _needs_exist(self) -> Self:
        for name, option in self.options.items():
            for other in option.needs:
                if other not in self.options:
                    raise ValueError(f"options.{name}.needs: there is no option {other!r}")
        return self

    def complete_options(self, given: dict[str, Any], asked_by: str) -> dict[str, Any]:
        """Fill `given` with defaults; an unknown option or a value that is not allowed raises InputError."""
        for name, value in given.items():
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise InputError(f"{asked_by}: {self.name} has no option {name!r}; options: {known}")
            problem = self.options[name].problem_with(value)
            if problem:
                raise InputError(f"{asked_by}: {self.name}.{name}: {value!r}: {problem}")
        complete = {name: given.get(name, option.default) for name, option in self.options.items()}
        for name in self._changed(complete):
            for other, value in self.options[name].needs.items():
                if complete[other] != value:
                    said, wanted, found = (json.dumps(one) for one in (complete[name], value, complete[other]))
                    raise InputError(
                        f"{asked_by}: {self.name}.{name}: {said} needs {other}: {wanted}; {other} is {found}"
                    )
        return complete

    def _changed(self, options: dict[str, Any]) -> list[str]:
        """Names of the (complete) options that do not have their default."""
        return [name for name, option in self.options.items() if options[name] != option.default]

    def number_of_stages(self, options: dict[str, Any]) -> int:
        """Regressors in a row with these (complete) options."""
        return options[self.stages] if isinstance(self.stages, str) else self.stages

    def number_of_classifiers(self, options: dict[str, Any]) -> int:
        """Classifiers with these (complete) options."""
        if self.classifiers is None:
            return self.number_of_stages(options)
        return options[self.classifiers] if isinstance(self.classifiers, str) else self.classifiers

    def treatment_of(self, options: dict[str, Any]) -> tuple[str, ...]:
        """Controls that the variant may change with these (complete) options."""
        further = (control for name in self._changed(options) for control in self.options[name].treatment)
        return tuple(dict.fromkeys((*self.treatment, *further)))


class FrameworkCard(Configuration):
    """An adapter's card, ``adapters/<name>/card.yaml``."""

    name: str
    title: str
    revision: Annotated[int, Ge(1)]
    """Raised when the numbers that a run gives may change."""


def load_framework_card(name: str, asked_by: str = "frameworks", folder: Path = ADAPTERS) -> FrameworkCard:
    """Read ``adapters/<name>/card.yaml``."""
    known = sorted(path.parent.name for path in folder.glob("*/card.yaml"))
    if name not in known:
        raise InputError(f"{asked_by}: unknown framework {name!r}; known: {', '.join(known)}")
    return read_model(FrameworkCard, folder / name / "card.yaml")
