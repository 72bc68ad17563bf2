"""The file of a study: what it may say, and where it is found."""

from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, MinLen

from cascadebench.core.configuration import CONFIG, Configuration, merged, named_file, read_named, read_yaml, validated
from cascadebench.detectors.cards import Value
from cascadebench.study.proposal_swaps import ProposalSwap
from cascadebench.study.protocol import Protocol

STUDIES = CONFIG / "studies"
TINY_SUFFIX = "-tiny"
"""A study's name with this at its end is the study in its tiny form."""
TINY_FORM = STUDIES / "overrides" / "tiny.yaml"
"""What a study has in its tiny form in place of its own values."""


class StudyVariant(Configuration):
    """A variant of a study, under a label of its own."""

    variant: str
    """Name of a folder under ``adapters/variants/``, of one in ``variant_folders``, or of an installed package's."""
    label: str | None = None
    """Name in tables and pictures; null: the card's title."""
    options: dict[str, Value] = {}


class AcceptedViolation(Configuration):
    """A violation that the audit of the controls shows with its reason and lets pass."""

    control: str
    """Name of the control."""
    variant: str | None = None
    """Label of the variant; null: every variant."""
    framework: str | None = None
    """The framework, or one of the two that differ; null: every framework."""
    reason: Annotated[str, MinLen(1)]
    """Why the violation does not spoil the comparison; it is printed in the report."""


class Execution(Configuration):
    """How runs are executed; changes no number of a training or of its detections."""

    gpus: Annotated[int, Ge(0)] = 0
    """GPUs per training; 0: the CPU. The batch is divided among them."""
    cpu_threads: Annotated[int, Ge(1)] = 1
    """Threads per process. One thread gives the same bytes on every run."""
    accumulation: Annotated[int, Ge(1)] = 1
    """Passes of every process that make up one step: as many times fewer images are on a GPU at a time."""
    loader_workers: Annotated[int, Ge(0)] = 0
    """Processes that read images, per training process."""
    memory_mb: Annotated[int, Ge(500)] = 4000
    train_minutes: Annotated[int, Ge(1)] = 60
    """Time limit of one training on a cluster."""
    checkpoint_interval: Annotated[int, Ge(1)] = 1000
    """Iterations between checkpoints; an interrupted training resumes from the last."""
    checkpoint_minutes: Annotated[float, Gt(0)] = 15.0
    """Minutes after which a checkpoint is written all the same."""
    log_interval: Annotated[int, Ge(1)] = 20
    """Iterations between lines of the log."""
    diagnostics: bool = True
    """Whether a prediction also writes its diagnostics, which takes longer."""


class StudyFile(Configuration):
    """``config/studies/<name>.yaml``."""

    name: str
    title: str
    description: str = ""
    dataset: str
    protocol: str = ""
    """Needed, as the next keys are, by a study with variants; one of imported detections alone has none of them."""
    protocol_override: dict[str, Any] = {}
    """Values that replace the protocol's, key by key."""
    frameworks: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    variants: tuple[StudyVariant, ...] = ()
    baseline: str = ""
    """Label of the variant that others are compared with."""
    seeds: tuple[Annotated[int, Ge(0)], ...] = ()
    imported: tuple[str, ...] = ()
    """Names of imported detections (``cascadebench import``) that are shown beside, as not controlled."""
    claims: tuple[str, ...] = ()
    """Ids of published claims that the study tests; docs/evidence.md lists them."""
    hypotheses: tuple[dict[str, Any], ...] = ()
    """Your own, in the grammar of claims, which :mod:`cascadebench.evidence.hypotheses` reads."""
    accepted_violations: tuple[AcceptedViolation, ...] = ()
    """Violations of the controls that do not stop the study."""
    proposal_swaps: tuple[ProposalSwap, ...] = ()
    """Further detections on other proposals."""
    variant_folders: tuple[str, ...] = ()
    """Folders with variants of your own, relative to this file: each holds folders with ``card.yaml`` and a module per
    framework."""
    execution: Execution = Execution()


def load_protocol(name: str, override: dict[str, Any], asked_by: str) -> Protocol:
    """Read ``config/protocols/<name>.yaml`` with some values replaced."""
    protocol = read_named(Protocol, CONFIG / "protocols", name, f"{asked_by}: protocol")
    changed = merged(protocol.model_dump(mode="json"), override)
    return validated(Protocol, changed, f"{asked_by}: protocol_override")


def read_study_file(name: str) -> tuple[StudyFile, Path]:
    """Read a study's file and say which it was; ``<name>-tiny`` is the file ``<name>`` in its tiny form.

    A file of that name goes first. The tiny form has the values of :data:`TINY_FORM` in place of the study's own, each
    key as a whole; the two descriptions follow each other.
    """
    base = name.removesuffix(TINY_SUFFIX)
    if base == name or (STUDIES / f"{name}.yaml").exists():
        return read_named(StudyFile, STUDIES, name, "study"), named_file(STUDIES, name, "study")
    path = named_file(STUDIES, base, f"study {name}")
    file = read_named(StudyFile, STUDIES, base, f"study {name}")
    override = read_yaml(TINY_FORM)
    words = {
        "name": name,
        "title": f"{file.title} (tiny form)",
        "description": f"{override['description']} {file.description}".strip(),
    }
    return validated(StudyFile, file.model_dump(mode="json") | override | words, TINY_FORM), path
