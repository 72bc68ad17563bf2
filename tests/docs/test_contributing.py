"""The map of CONTRIBUTING.md is the tree."""

import re

from cascadebench.core.configuration import PROJECT

PAGE = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
_, MAP, _ = PAGE.split("## Where things are")[1].split("```", 2)


def mapped(folder: str) -> set[str]:
    """Names that the map lists under a folder, up to a slash."""
    block = re.search(rf"^{folder}/.*\n((?:  .*\n)+)", MAP, re.MULTILINE).group(1)
    names = re.findall(r"^  (\S.*?)(?:  |$)", block, re.MULTILINE)
    return {name.split("/")[0] for line in names for name in line.split()}


def test_every_package_is_on_the_map():
    for folder in ("cascadebench", "adapters"):
        packages = {path.parent.name for path in (PROJECT / folder).glob("*/__init__.py")}
        packages |= {path.name for path in (PROJECT / "adapters").glob("variants") if folder == "adapters"}
        assert packages <= mapped(folder)
        assert [name for name in mapped(folder) if not (PROJECT / folder / name).exists()] == []


def test_every_path_of_the_tasks_exists():
    paths = [
        path
        for row in re.findall(r"^\| a .*$", PAGE, re.MULTILINE)
        for path in re.findall(r"`([\w<>./]+/[\w<>./]*)`", row)
    ]
    assert len(paths) >= 10
    for path in paths:
        assert (PROJECT / path.replace("<framework>", "mmdet")).exists(), path
