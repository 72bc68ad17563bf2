"""The code that builds a variant, as files and as a checksum: whether it is still what was inspected or trained.

Beside its own folder a variant may use modules of the project that other detectors do without, such as another variant
or the layers of masks. They belong to its sources; what every detector of a framework is built from does not: the
*framework base*, which is ``adapters/<framework>/config.py`` and all that it imports, directly or not.
"""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from cascadebench.core.files import canonical_json, sha256_of
from cascadebench.detectors.cards import ADAPTERS


def variant_sources(home: Path) -> dict[str, Path]:
    """Find a variant's card and modules, and the modules of the project that they need beyond the framework base.

    Parameters
    ----------
    home : Path
        The variant's folder, all of whose modules count.

    Returns
    -------
    dict of str to Path
        By the path in the folder; modules of elsewhere in the project by ``adapters/...``.
    """
    own = {path.relative_to(home).as_posix(): path for path in [home / "card.yaml", *home.rglob("*.py")]}
    beyond = set()
    for framework in _frameworks():
        beyond |= _reached(home / f"{framework}.py") - _reached(ADAPTERS / framework / "config.py")
    elsewhere = {_place(path): path for path in beyond if path.is_relative_to(ADAPTERS) and home not in path.parents}
    return dict(sorted((own | elsewhere).items()))


def variant_digest(home: Path) -> str:
    """SHA-256 of a variant's sources."""
    return _digest(variant_sources(home))


@cache
def building_digest(framework: str, homes: frozenset[Path]) -> str:
    """SHA-256 of what builds detectors in a framework: the adapter's modules, and the sources of some variants.

    Parameters
    ----------
    homes : frozenset of Path
        Folders of the variants.
    """
    elsewhere = [ADAPTERS / name for name in _frameworks() - {framework}] + [ADAPTERS / "variants"]
    modules = [path for path in ADAPTERS.rglob("*.py") if not any(map(path.is_relative_to, elsewhere))]
    digests = [_digest({_place(path): path for path in modules}), *sorted(map(variant_digest, homes))]
    return hashlib.sha256(canonical_json(digests).encode()).hexdigest()


def _frameworks() -> set[str]:
    return {card.parent.name for card in ADAPTERS.glob("*/card.yaml")}


def _place(path: Path) -> str:
    return path.relative_to(ADAPTERS.parent).as_posix()


def _reached(module: Path) -> set[Path]:
    """A module, if it exists, and all modules of the adapters that it imports, directly or not."""
    reached: set[Path] = set()
    waiting = [module]
    while waiting:
        path = waiting.pop()
        if path not in reached and path.is_file():
            reached.add(path)
            waiting += _imported(path)
    return reached


def _imported(path: Path) -> Iterator[Path]:
    """Where the modules would be that a module imports from its own folder and from the adapters."""
    for level, name in _imports(path.read_bytes()):
        root, parts = path.parents[level - 1] if level else ADAPTERS.parent, name.split(".")
        if level or parts[0] == ADAPTERS.name:
            for end in range(1, len(parts) + 1):  # with the packages on the way
                yield root.joinpath(*parts[:end]).with_suffix(".py")
                yield root.joinpath(*parts[:end], "__init__.py")


@cache
def _imports(code: bytes) -> list[tuple[int, str]]:
    """Imports of a module: the number of dots before a name, and the name; none if it is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError):  # whoever builds the variant says so
        return []
    plain = [(0, alias.name) for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return plain + [
        (node.level, f"{node.module or ''}.{alias.name}".lstrip("."))
        for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    ]  # fmt: skip


def _digest(files: Mapping[str, Path]) -> str:
    content = {place: sha256_of(path) for place, path in files.items()}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
