"""Reading YAML configuration into strict models, with errors that fit on one line."""

import json
import os
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_text

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = PROJECT / "config"

Model = TypeVar("Model", bound=BaseModel)


class Configuration(BaseModel):
    """Base of every configuration model: unknown keys are refused, values are frozen and strictly typed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads ``1e-4`` as a number (YAML 1.2) and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {sorted(twice)[0]!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; raises :class:`InputError` if the file is missing, malformed or no mapping."""
    text = read_text(path)
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1} column {mark.column + 1}" if mark else ""
        raise InputError(f"{path}:{place} not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: a mapping of keys to values is expected, found {type(value).__name__}")
    return value


def _sentence(problem: dict[str, Any], model: type[BaseModel]) -> str:
    """One problem of a pydantic error as `key: what is wrong: what is allowed`."""
    key = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
    if problem["type"] == "extra_forbidden":
        allowed: Any = model
        for part in problem["loc"][:-1]:
            field = getattr(allowed, "model_fields", {}).get(part)
            allowed = field.annotation if field else None
        names = ", ".join(getattr(allowed, "model_fields", {}))
        return f"{key}: unknown key" + (f"; allowed: {names}" if names else "")
    if problem["type"] == "missing":
        return f"{key}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}; found {json.dumps(problem['input'], default=str)[:80]}"


def validated(model: type[Model], value: Any, source: str | Path) -> Model:
    """Validate `value` against `model`.

    Parameters
    ----------
    source : str or Path
        Where the value came from, named in the error.

    Raises
    ------
    InputError
        With the first problem, and how many more there are.
    """
    try:
        return model.model_validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        problems = error.errors()
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{source}: {_sentence(problems[0], model)}{more}") from error


def read_model(model: type[Model], path: Path) -> Model:
    """Read a YAML file into `model`."""
    return validated(model, read_yaml(path), path)


def named_file(folder: Path, name: str, asked_by: str) -> Path:
    """Find ``folder/name.yaml``, or the file itself when `name` is a path that ends in ``.yaml``.

    Parameters
    ----------
    asked_by : str
        File and key that hold the name, for the message.

    Raises
    ------
    InputError
        If there is no such file; the message lists the names that exist.
    """
    if name.endswith(".yaml"):
        return Path(name)  # reading it says what is wrong, if anything is
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        there = ", ".join(known) or "none"
        raise InputError(f"{asked_by}: unknown name {name!r}; in {folder.name}/ there are: {there}")
    return folder / f"{name}.yaml"


def read_named(model: type[Model], folder: Path, name: str, asked_by: str) -> Model:
    """Read ``folder/name.yaml`` (or a path) into `model`, whose `name` must be the file's."""
    path = named_file(folder, name, asked_by)
    value = read_model(model, path)
    if value.name != path.stem:
        raise InputError(f"{path}: name: {value.name!r} must equal the file's name {path.stem!r}")
    return value


def expand_environment(text: str) -> str | None:
    """Replace ``${NAME}`` by environment variables; None if one of them is not set."""
    names = re.findall(r"\$\{(\w+)\}", text)
    if any(not os.environ.get(name) for name in names):
        return None
    return re.sub(r"\$\{(\w+)\}", lambda match: os.environ[match[1]], text)


def merged(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `override` replaced, mapping by mapping; neither is changed."""
    result = dict(base)
    for key, value in override.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result
