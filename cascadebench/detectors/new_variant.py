"""``cascadebench new-variant``: the card and the modules of a new variant that starts as a copy of another."""

import re
from pathlib import Path
from typing import Any

import jinja2
import yaml

from cascadebench.core.errors import InputError
from cascadebench.core.files import written_beside
from cascadebench.detectors.cards import VARIANTS, VariantCard
from cascadebench.detectors.variant_catalog import find_variant, own_variants, variant_files

TEMPLATES = Path(__file__).parent / "new_variant_templates"
CONFIGURATION = {"mmdet": "dict[str, Any]", "detectron2": "DictConfig"}
"""Type of what a framework's ``configure`` is given."""


def new_variant(name: str, base: str, folder: Path | None) -> list[Path]:
    """Write a variant that is, until it is edited, the variant `base` under another name.

    Parameters
    ----------
    name : str
        Lower-case letters, digits and underscores.
    base : str
        One of the project's own variants.
    folder : Path or None
        Where the folder of the variant is made; None: the variant becomes one of the project's own.

    Returns
    -------
    list of Path
        The files: the card, then one module per framework.

    Raises
    ------
    InputError
        If the name is taken or not allowed, `base` does not exist or is not trained itself, or a file is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InputError(f"new-variant: name {name!r}: lower-case letters, digits and underscores are allowed")
    if name in variant_files():
        raise InputError(f"new-variant: name {name!r} is taken; there are: {', '.join(variant_files())}")
    if base not in own_variants():
        raise InputError(f"new-variant: --from {base!r}: unknown variant; there are: {', '.join(own_variants())}")
    card = find_variant(base, "new-variant: --from").card
    if card.trained_as:
        raise InputError(f"new-variant: --from {base!r}: it has no training of its own; start from one that has")
    target = (folder or VARIANTS) / name
    paths = [target / "card.yaml", *(target / f"{framework}.py" for framework in card.frameworks)]
    for path in paths:
        if path.exists():
            raise InputError(f"new-variant: {path} is there already")
    _write(paths[0], "card.yaml.jinja", name=name, base=card, fields=_fields(card))
    for framework, path in zip(card.frameworks, paths[1:], strict=True):
        kind = CONFIGURATION[framework]
        _write(path, "module.py.jinja", name=name, base=card, framework=framework, kind=kind)
    return paths


class _Dumper(yaml.SafeDumper):
    """Safe YAML whose short lists stand on one line."""


_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=len(value) < 5)
)


def _fields(card: VariantCard) -> dict[str, str]:
    """Everything that a card says, as YAML, without what it leaves at its default."""
    layout = {"Dumper": _Dumper, "sort_keys": False, "allow_unicode": True, "width": 110}
    said = card.model_dump(mode="json", exclude_unset=True)
    return {key: yaml.dump({key: value}, **layout).rstrip() for key, value in said.items()}


def _write(path: Path, template: str, **content: Any) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as temporary:
        temporary.write_text(environment.get_template(template).render(content), encoding="utf-8")
