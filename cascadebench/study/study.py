"""A study: a set of runs that are compared under one protocol."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cascadebench.datasets.card import DatasetCard
from cascadebench.study.proposal_swaps import ProposalSource
from cascadebench.study.protocol import Protocol
from cascadebench.study.run import Run
from cascadebench.study.study_file import StudyFile


@dataclass(frozen=True)
class Detector:
    """A variant with its options, in one framework, with one backbone; its runs differ in the seed alone."""

    label: str
    """What the study calls the variant with these options; a title for imported detections."""
    framework: str
    backbone: str

    @property
    def conditions(self) -> tuple[str, str]:
        """Framework and backbone: what detectors share that are compared with each other."""
        return self.framework, self.backbone


@dataclass(frozen=True)
class PlannedRun:
    """A run of a study, the label under which it appears there, and the controls that its variant may change."""

    label: str
    run: Run
    treatment: frozenset[str] = frozenset()
    values: Mapping[str, Any] = field(default_factory=dict)
    """Values that the variant's card gives for controls of its treatment."""

    @property
    def detector(self) -> Detector:
        """What the run is a training of, whatever its seed."""
        return Detector(self.label, self.run.framework, self.run.backbone.name)

    @property
    def title(self) -> str:
        """The run in words."""
        return f"{self.label}, {self.run.framework}, seed {self.run.seed}"


def by_detector(runs: Iterable[PlannedRun]) -> dict[Detector, list[PlannedRun]]:
    """Runs that differ in their seed alone, together, in the order of the first ones."""
    together: dict[Detector, list[PlannedRun]] = {}
    for planned in runs:
        together.setdefault(planned.detector, []).append(planned)
    return together


@dataclass(frozen=True)
class Study:
    """A study with everything that it names looked up."""

    file: StudyFile
    protocol: Protocol | None
    """None in a study of imported detections alone."""
    dataset: DatasetCard
    runs: tuple[PlannedRun, ...]
    swaps: Mapping[str, tuple[ProposalSource, ...]] = field(default_factory=dict)
    """By run id, the other proposals that a run detects on."""

    @property
    def name(self) -> str:
        """Name of the study, as in ``--config study=NAME``."""
        return self.file.name

    def run(self, run_id: str) -> Run:
        """Return the run with this id; KeyError if the study has none."""
        return self._by_id[run_id]

    @cached_property
    def _by_id(self) -> dict[str, Run]:
        """Runs by id: hashing a run takes a tenth of a millisecond, which a large study asks for very often."""
        return {planned.run.id: planned.run for planned in self.runs}

    def parts(self, framework: str, size: int) -> list[list[str]]:
        """Ids of a framework's runs in parts of at most `size`, with the variants of one folder alone in each part."""
        by_folder: dict[str | None, list[str]] = {}
        for run_id, run in self._by_id.items():
            if run.framework == framework:
                by_folder.setdefault(run.variant.folder, []).append(run_id)
        return [ids[first : first + size] for ids in by_folder.values() for first in range(0, len(ids), size)]

    @property
    def masks(self) -> bool:
        """Whether a variant predicts masks."""
        return any(planned.run.variant.masks for planned in self.runs)

    @property
    def run_ids(self) -> list[str]:
        """Ids of all runs, in the order of the study."""
        return list(self._by_id)
