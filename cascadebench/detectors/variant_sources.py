"""The code that builds a variant, as files and as a checksum: whether it is still what was inspected or trained."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from cascadebench.core.files import canonical_json, sha256_of
from cascadebench.detectors.cards import ADAPTERS


def variant_sources(name: str, folder: str | None) -> dict[str, Path]:
    """Find a variant's card and modules.

    Parameters
    ----------
    folder : str or None
        Folder of a variant from outside the project, all of whose modules count; None: one of the project's own.

    Returns
    -------
    dict of str to Path
        By the path in the folder, or in the project's ``adapters/``.
    """
    if folder is None:
        card, modules = ADAPTERS / "variants" / f"{name}.yaml", ADAPTERS.glob(f"*/variants/{name}.py")
        return _by_place(ADAPTERS, [card, *modules])
    return _by_place(Path(folder), [Path(folder) / "card.yaml", *Path(folder).rglob("*.py")])


def variant_digest(name: str, folder: str | None) -> str:
    """SHA-256 of a variant's card and modules."""
    return _digest(variant_sources(name, folder))


@cache
def building_digest(framework: str, folder: str | None) -> str:
    """SHA-256 of what builds a detector: the adapter's modules, and the variant's in a folder outside the project."""
    others = [card.parent for card in ADAPTERS.glob("*/card.yaml") if card.parent.name != framework]
    modules = [path for path in ADAPTERS.rglob("*.py") if not any(map(path.is_relative_to, others))]
    files = _by_place(ADAPTERS, modules)
    outside = variant_sources("", folder) if folder else {}
    return _digest(files | {f"variant/{place}": path for place, path in outside.items()})


def _by_place(folder: Path, paths: list[Path]) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(paths)}


def _digest(files: Mapping[str, Path]) -> str:
    content = {place: sha256_of(path) for place, path in files.items()}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
