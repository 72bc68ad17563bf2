"""A run: one detector, trained once; its identity, and among what its batch can be divided."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from annotated_types import Ge

from cascadebench.core.configuration import Configuration, read_model
from cascadebench.core.errors import InputError
from cascadebench.core.files import canonical_json, write_text
from cascadebench.datasets.card import DatasetCard
from cascadebench.detectors.backbone import Backbone
from cascadebench.detectors.cards import VARIANTS, Value
from cascadebench.detectors.inference_stages import TestStage, all_test_stages
from cascadebench.detectors.variant_catalog import FoundVariant
from cascadebench.study.protocol import Protocol

LIBRARY_REVISION = 3
"""Raised when the library's part in training changes numbers (image order, seeding)."""
LEARNS_FROM_PART = "batch norm would learn from a part of each batch"
"""Why a step is refused in several parts."""


class ChosenVariant(Configuration):
    """A variant with all its options."""

    name: str
    options: dict[str, Value]
    stages: Annotated[int, Ge(1)]
    """Regressors in a row."""
    classifiers: Annotated[int, Ge(1)]
    heads: Annotated[int, Ge(1)]
    """Heads that are trained."""
    headline: str
    """Label of the test stage that stands for it in a comparison."""
    masks: bool = False
    """Whether it predicts masks."""
    folder: str | None = None
    """Folder of a variant that lives outside the project; null: one of the project's own."""
    weights_from: str | None = None
    """Id of the run whose trained weights it uses; null: it is trained itself."""

    @property
    def home(self) -> Path:
        """Folder of its card and modules."""
        return VARIANTS / self.name if self.folder is None else Path(self.folder)

    @property
    def test_stages(self) -> list[TestStage]:
        """Everything that one pass over the images is read off."""
        return all_test_stages(self.stages, self.classifiers)


def chosen_variant(found: FoundVariant, options: dict[str, Value], asked_by: str) -> ChosenVariant:
    """Choose a variant with complete options; raises InputError if more classifiers are asked for than stages."""
    card = found.card
    stages, classifiers = card.number_of_stages(options), card.number_of_classifiers(options)
    if isinstance(card.classifiers, str) and classifiers > stages:
        raise InputError(f"{asked_by}.{card.classifiers}: {classifiers}: at most one for each of {stages} stages")
    headline = "(T,1)" if classifiers == 1 else card.headline
    return ChosenVariant(
        name=card.name,
        options=options,
        stages=stages,
        classifiers=classifiers,
        heads=card.heads or max(stages, classifiers),
        headline=headline.replace("T", str(stages)).replace("C", str(classifiers)),
        masks=card.masks,
        folder=None if found.folder.parent == VARIANTS else str(found.folder),
    )


class Revisions(Configuration):
    """Integers that are raised when a code change may change numbers."""

    library: int
    adapter: int
    variant: int


class Run(Configuration):
    """Everything that decides a run's numbers, frozen; ``results/runs/<id>/run.yaml`` is one, written out."""

    framework: str
    variant: ChosenVariant
    backbone: Backbone
    dataset: DatasetCard
    protocol: Protocol
    seed: Annotated[int, Ge(0)]
    revisions: Revisions

    def identity(self) -> dict[str, Any]:
        """What is hashed: the run without words and places that change no number."""
        value = self.model_dump(mode="json")
        value["dataset"] = self.dataset.identity()
        for part in ("name", "description"):
            del value["protocol"][part]
        for part in ("headline", "masks", "folder"):
            del value["variant"][part]
        if value["backbone"]["weights"]:
            del value["backbone"]["weights"]["path"]
        return value

    @property
    def id(self) -> str:
        """Readable slug and the first 10 hex digits of the SHA-256 of the canonical JSON of :meth:`identity`."""
        digest = hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()[:10]
        words = [self.variant.name, self.framework, self.backbone.name, self.dataset.name, f"seed{self.seed}", digest]
        return "-".join(re.sub(r"[^A-Za-z0-9_.]", "_", word) for word in words)

    def write(self, path: Path) -> None:
        """Write the run as YAML, beside and renamed."""
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
        write_text(path, f"# Run {self.id}: everything that decides its numbers. Written by the pipeline.\n{text}")


def read_run(path: Path) -> Run:
    """Read ``run.yaml``; raises InputError if it is no run."""
    return read_model(Run, path)


def check_batch_division(run: Run, processes: int, accumulation: int, asked_by: str) -> None:
    """Refuse passes and processes (GPUs) among which a run's batch cannot be divided without other numbers.

    Raises
    ------
    InputError
        If the division leaves a rest, or if batch norm would learn from a part of a batch.
    """
    batch_size, norm = run.protocol.schedule.batch_size, run.protocol.backbone.batch_norm
    if batch_size % (processes * accumulation):
        by = f"{processes} process(es) with {accumulation} pass(es) each"
        raise InputError(f"{asked_by}: a batch of {batch_size} images cannot be divided among {by}")
    if norm == "trained" and run.backbone.norm == "batch":
        whose, otherwise = f"protocol {run.protocol.name}", "backbone.batch_norm is fixed_statistics or frozen"
        check_parts(processes, accumulation, asked_by, f"{whose}; only 1 is allowed unless {otherwise}")


def check_parts(processes: int, accumulation: int, asked_by: str, where: str) -> None:
    """Refuse a step in several parts where batch norm would learn from one of them; `where` ends the message."""
    if processes * accumulation > 1:
        key, number = ("accumulation", accumulation) if accumulation > 1 else ("gpus", processes)
        raise InputError(f"{asked_by}.{key}: {number}: {LEARNS_FROM_PART} in {where}")
