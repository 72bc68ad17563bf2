"""What sources give of their protocols, in their own numbers: the length of a training, values, and where each stands.

One YAML file per source under ``cascadebench/evidence/protocols/``. What a source does not give is absent; where it
refers to another's settings, that other's file says them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from annotated_types import Ge, MinLen
from pydantic import TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from cascadebench.core.configuration import Configuration, read_named
from cascadebench.core.errors import InputError
from cascadebench.study.protocol import Protocol

FOLDER = Path(__file__).parent / "protocols"
TRAINING_IMAGES = {"coco2017": 117_266, "voc0712": 16_551}
"""Training images with boxes, which an epoch passes over."""
OF_LENGTH = ("schedule.iterations", "schedule.steps")
"""Keys of a protocol that a source gives as the length of its training and the drops of its rate."""


class Given(Configuration):
    """Values that stand in one place of a source."""

    place: str
    """Section, table or file."""
    values: dict[str, Any]
    """Part of a protocol, nested as one."""


class SourceSchedule(Configuration):
    """One training schedule of a source; what is left out the source does not say."""

    name: str
    words: str
    """As the source calls it."""
    dataset: str
    """Name of a card under ``config/datasets/``."""
    iterations: Annotated[int, Ge(1)] | None = None
    epochs: Annotated[int, Ge(1)] | None = None
    """Passes over the images with boxes."""
    drops: tuple[Annotated[int, Ge(1)], ...] | None = None
    """Iterations or epochs after which the learning rate falls."""
    values: dict[str, Any] = {}
    """Part of a protocol, nested as one, that is this schedule's own."""
    not_given: tuple[str, ...] = ()
    """Keys whose value in the file or in one that it refers to does not hold for this schedule."""
    otherwise: tuple[str, ...] | None = None
    """In place of the file's."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.iterations is not None and self.epochs is not None:
            raise ValueError("iterations and epochs exclude each other")
        if self.epochs is not None and self.dataset not in TRAINING_IMAGES:
            raise ValueError(f"epochs need a dataset of known size: {', '.join(TRAINING_IMAGES)}")
        if self.drops is not None and not (self.iterations or self.epochs):
            raise ValueError("drops need iterations or epochs")
        return self


class SourceFile(Configuration):
    """``cascadebench/evidence/protocols/<name>.yaml``: what one source gives of its protocols."""

    name: Annotated[str, MinLen(1)]
    title: str
    source: str
    otherwise: tuple[str, ...] = ()
    """Files whose values hold where this one says nothing, since the source refers to their settings; the first that
    has a value goes first."""
    given: tuple[Given, ...] = ()
    """What holds for all schedules of the source."""
    schedules: tuple[SourceSchedule, ...] = ()


class GivenValue(NamedTuple):
    """A value that a source gives; `place` says where it stands if that is another source."""

    value: Any
    place: str = ""


@dataclass(frozen=True)
class SourceProtocol:
    """A schedule of a source with everything that the source gives beside."""

    name: str
    words: str
    dataset: str
    """Those of its :class:`SourceSchedule`."""
    images: int | None
    """Images that pass through training, repetitions counted; None: not known."""
    drops: tuple[float, ...] | None
    """When the learning rate falls, as shares of the length; None: not known."""
    given: Mapping[str, GivenValue]
    """Every other value that the source gives, by its key in a protocol, such as ``heads.width``."""


def protocol_values(protocol: Protocol) -> dict[str, Any]:
    """Every value of a protocol by its key, such as ``heads.width``; lists where the protocol has tuples."""
    return dict(_leaves(protocol.model_dump(mode="json"), set(protocol_keys())))


@cache
def protocol_keys() -> dict[str, FieldInfo]:
    """Every value that a protocol has, by its key, without the words about it."""
    return {key: field for key, field in _fields(Protocol) if key not in ("name", "description")}


def _fields(model: type[Configuration], above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Configuration):
            yield from _fields(field.annotation, f"{above}{name}.")
        else:
            yield above + name, field


def _leaves(values: Mapping[str, Any], keys: set[str], above: str = "") -> Iterator[tuple[str, Any]]:
    """Values of nested mappings by key; the words about a protocol are left out."""
    for name, value in values.items():
        if isinstance(value, dict) and above + name not in keys:
            yield from _leaves(value, keys, f"{above}{name}.")
        elif above + name not in ("name", "description"):
            yield above + name, value


@cache
def load_source_protocols(folder: Path = FOLDER) -> dict[str, SourceProtocol]:
    """Read the schedules of all sources by name, with everything that holds for each.

    Raises
    ------
    InputError
        If a file is malformed or refers to one that does not exist, a key is none of a protocol's, a value is none that
        the key may have, or two schedules have one name.
    """
    names = [path.stem for path in sorted(folder.glob("*.yaml"))]
    files = {name: read_named(SourceFile, folder, name, "protocols") for name in names}
    found: dict[str, SourceProtocol] = {}
    for name, file in files.items():
        for schedule in file.schedules:
            path = folder / f"{name}.yaml"
            if schedule.name in found:
                raise InputError(f"{path}: schedules: the name {schedule.name!r} is given twice")
            found[schedule.name] = _resolved(schedule, file, files, path)
    return found


def find_schedule(name: str, asked_by: str) -> SourceProtocol:
    """Find a schedule of a source; raises InputError listing the names that exist."""
    schedules = load_source_protocols()
    if name not in schedules:
        raise InputError(f"{asked_by}: unknown schedule {name!r}; there are: {', '.join(schedules)}")
    return schedules[name]


def _resolved(
    schedule: SourceSchedule, file: SourceFile, files: Mapping[str, SourceFile], path: Path
) -> SourceProtocol:
    """The schedule's own values, then its file's, then those of the files that the source refers to."""
    asked_by = f"{path}: schedule {schedule.name}"
    own = [Given(place="", values=schedule.values), *(one.model_copy(update={"place": ""}) for one in file.given)]
    others = file.otherwise if schedule.otherwise is None else schedule.otherwise
    given: dict[str, GivenValue] = {}
    for one in [*own, *_referred(others, files, asked_by)]:
        for key, value in _leaves(one.values, set(protocol_keys())):
            given.setdefault(key, GivenValue(_checked(key, value, asked_by), one.place))
    for key in schedule.not_given:
        _check_key(key, f"{asked_by}: not_given")
        given.pop(key, None)
    batch_size = given.get("schedule.batch_size")
    if schedule.iterations is not None and batch_size is None:
        raise InputError(f"{asked_by}: iterations: they need schedule.batch_size among the values")
    images = schedule.iterations and schedule.iterations * batch_size.value
    if schedule.epochs is not None:
        images = schedule.epochs * TRAINING_IMAGES[schedule.dataset]
    length = schedule.iterations or schedule.epochs
    drops = None if schedule.drops is None else tuple(drop / length for drop in schedule.drops)
    return SourceProtocol(schedule.name, schedule.words, schedule.dataset, images, drops, given)


def _referred(names: tuple[str, ...], files: Mapping[str, SourceFile], asked_by: str) -> Iterator[Given]:
    """What the files of these names give, each followed by those that it refers to itself."""
    for name in names:
        if name not in files:
            raise InputError(f"{asked_by}: otherwise: unknown file {name!r}; there are: {', '.join(files)}")
        for one in files[name].given:
            yield one.model_copy(update={"place": f"{files[name].title}, {one.place}"})
        yield from _referred(files[name].otherwise, files, asked_by)


def _check_key(key: str, asked_by: str) -> None:
    """Refuse a key that a source cannot give."""
    if key in OF_LENGTH:
        raise InputError(f"{asked_by}: {key}: no value of its own; iterations or epochs, and drops, say it")
    if key not in protocol_keys():
        close = get_close_matches(key, protocol_keys(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise InputError(f"{asked_by}: {key}: a protocol has no such value{hint}")


def _checked(key: str, value: Any, asked_by: str) -> Any:
    """Refuse a key that a source cannot give and a value that a protocol cannot have."""
    _check_key(key, asked_by)
    field = protocol_keys()[key]
    kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    try:
        TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise InputError(f"{asked_by}: {key}: {problem[0].lower()}{problem[1:]}; found {value!r}") from error
    return value
