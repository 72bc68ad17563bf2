"""Detections that were brought in from outside: what is known of them, and how they stand in a study.

No protocol, audit or seed stands behind them. They are shown beside a study's detectors as not controlled, and are
never a baseline or part of a claim.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, MinLen

from cascadebench.core.configuration import Configuration, validated
from cascadebench.core.errors import InputError
from cascadebench.core.files import read_json, sha256_of
from cascadebench.results.layout import ImportedFolder, ResultsFolder
from cascadebench.study.study import Study

FRAMEWORK = "imported"
"""Stands in the column ``framework`` of a study's tables, where a framework's name stands for a run."""
NOT_CONTROLLED = "not controlled"


class SourceFile(Configuration):
    """A file that detections were made of."""

    name: str
    """Without its folder."""
    sha256: str
    test_stage: str = ""
    """Test stage that its detections became; empty: it names its own, or is no file of detections."""


class ImportedFile(Configuration):
    """``results/imported/<name>/imported.json``."""

    name: str
    title: Annotated[str, MinLen(1)]
    """Label in tables and pictures."""
    notes: str = ""
    """Where the model comes from, in words."""
    dataset: str
    ground_truth_sha256: str
    """Of the prepared ``val.json`` that the detections belong to and were evaluated on."""
    detections: Annotated[int, Ge(0)]
    detections_sha256: str
    """Of ``detections.parquet``."""
    test_stages: Annotated[tuple[str, ...], MinLen(1)]
    headline: str
    """Test stage that stands for it in a comparison."""
    files: tuple[SourceFile, ...]
    made_with: dict[str, Any] = {}
    """Framework, versions and device, where a checkpoint was run here."""
    time: str
    """When it was imported (UTC)."""


@dataclass(frozen=True)
class NamedStage:
    """A test stage of which nothing but the name is known."""

    label: str


@dataclass(frozen=True)
class ImportedVariant:
    """What a run's variant says of its test stages."""

    headline: str
    test_stages: tuple[NamedStage, ...]


@dataclass(frozen=True)
class ImportedRun:
    """Imported detections with the names under which tables and charts read a run."""

    file: ImportedFile
    framework: str = FRAMEWORK
    seed: int = 0

    @property
    def id(self) -> str:
        """What stands in the column ``run``: the folder under ``results/``, which no run's id can be."""
        return f"imported/{self.file.name}"

    @property
    def variant(self) -> ImportedVariant:
        """Its test stages."""
        return ImportedVariant(self.file.headline, tuple(map(NamedStage, self.file.test_stages)))


def imported_folder(results: Path, name: str) -> ImportedFolder:
    """Folder of imported detections; raises InputError if the name is none."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise InputError(f"imported: {name!r} is no name; letters, digits, '_', '-' and '.' are allowed")
    return ResultsFolder(results).imported(name)


def read_imported(folder: ImportedFolder) -> ImportedFile:
    """Read ``imported.json``; raises InputError if it is missing or malformed."""
    if not folder.record.is_file():
        raise InputError(f"{folder.record}: no such file; `cascadebench import {folder.path.name}` writes it")
    return validated(ImportedFile, read_json(folder.record), folder.record)


def find_imported(study: Study, results: Path) -> tuple[list[ImportedRun], dict[str, str]]:
    """Imported detections of a study, and by name why others that it names cannot be shown.

    Not shown is what was never imported, what belongs to another dataset or to this one as it was prepared before, and
    what has the title of a variant or of another import.
    """
    truth = ResultsFolder(results).dataset(study.dataset.name).val
    digest = sha256_of(truth) if study.file.imported and truth.is_file() else None
    taken = {planned.label for planned in study.runs}
    found, problems = [], {}
    for name in study.file.imported:
        folder = imported_folder(results, name)
        try:
            file = read_imported(folder)
        except InputError as error:
            problems[name] = str(error)
            continue
        if file.ground_truth_sha256 != digest:
            problems[name] = f"it was evaluated on other ground truth than {truth}; import it again"
        elif not folder.ap.is_file():
            problems[name] = f"{folder.ap}: no such file; import it again"
        elif file.title in taken:
            problems[name] = f"its title {file.title!r} is taken; import it again with another --title"
        else:
            taken.add(file.title)
            found.append(ImportedRun(file))
    return found, problems
