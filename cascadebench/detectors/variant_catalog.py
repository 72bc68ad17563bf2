"""Where variants are found: in the project, in folders that a study names, in installed packages.

A variant is one folder with ``card.yaml`` and for each framework a module ``<framework>.py``: a folder ``<name>/``
inside the project's ``adapters/variants/`` or inside a folder that the study lists under ``variant_folders``, or an
installed package that declares the entry point ``<name>`` in the group ``cascadebench.variants``.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cascadebench.core.configuration import read_model
from cascadebench.core.errors import InputError
from cascadebench.detectors.cards import VARIANTS, VariantCard

ENTRY_POINTS = "cascadebench.variants"


@dataclass(frozen=True)
class FoundVariant:
    """A variant's card, and the file that it was read from."""

    card: VariantCard
    path: Path

    @property
    def folder(self) -> Path:
        """Folder of its card and modules."""
        return self.path.parent.resolve()


def own_variants() -> list[str]:
    """Names of the project's own variants."""
    return [name for name, _ in _in_folders([VARIANTS])]


def variant_files(folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Card of every variant by name: the project's own, those of `folders`, those of installed packages.

    Raises
    ------
    InputError
        If a folder does not exist or holds no variant, a package cannot be found, or two variants have one name.
    """
    found: dict[str, Path] = {}
    for name, path in [*_in_folders([VARIANTS, *folders]), *_in_packages()]:
        if name in found:
            raise InputError(f"{path}: the variant {name!r} exists already: {found[name]}")
        found[name] = path
    return found


def find_variant(name: str, asked_by: str, folders: Sequence[Path] = ()) -> FoundVariant:
    """Read a variant's card.

    Parameters
    ----------
    asked_by : str
        File and key that hold the name, for the message.
    folders : sequence of Path
        Where to look beside the project and the installed packages.

    Raises
    ------
    InputError
        If no variant has this name, its card is malformed, or it lacks the module of a framework that its card lists.
    """
    files = variant_files(folders)
    if name not in files:
        raise InputError(f"{asked_by}: unknown variant {name!r}; there are: {', '.join(files)}")
    path = files[name]
    card = read_model(VariantCard, path)
    if card.name != name:
        raise InputError(f"{path}: name: {card.name!r} must be {name!r}, the name of its folder or entry point")
    found = FoundVariant(card, path)
    for framework in card.frameworks:
        module = found.folder / f"{framework}.py"
        if not module.is_file():
            raise InputError(f"{path}: frameworks: {framework!r} needs the module {module}")
    return found


def _in_folders(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    found = []
    for folder in folders:
        cards = sorted(folder.glob("*/card.yaml"))
        if not cards:
            raise InputError(f"{folder}: no variant: a folder with card.yaml and a module per framework is expected")
        found += [(card.parent.name, card) for card in cards]
    return found


def _in_packages() -> list[tuple[str, Path]]:
    found = []
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        try:
            spec = importlib.util.find_spec(entry.value)
        except Exception as error:  # of a package inside another, which is imported for that
            why = f"{entry.value!r} cannot be imported: {type(error).__name__}: {error}"
            raise InputError(f"entry point {entry.name} in {ENTRY_POINTS}: {why}") from error
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not places:
            raise InputError(f"entry point {entry.name} in {ENTRY_POINTS}: {entry.value!r} is no installed package")
        found.append((entry.name, Path(places[0]) / "card.yaml"))
    return found
