"""Reading a study with everything that it names: variants, backbones, dataset, protocol, controls and claims."""

from collections.abc import Sequence
from difflib import get_close_matches
from itertools import product
from pathlib import Path

from cascadebench.controls.definitions import CONTROLS
from cascadebench.core.errors import InputError
from cascadebench.datasets.card import AnnotationsAlone, DatasetCard, load_dataset_card
from cascadebench.detectors.backbone import check_pyramid, load_backbone
from cascadebench.detectors.cards import VariantCard, load_framework_card
from cascadebench.detectors.variant_catalog import FoundVariant, find_variant
from cascadebench.evidence.claims import find_claims
from cascadebench.evidence.hypotheses import hypotheses_of
from cascadebench.study.proposal_swaps import planned_swaps
from cascadebench.study.protocol import Protocol
from cascadebench.study.run import LIBRARY_REVISION, Revisions, Run, check_batch_division, chosen_variant
from cascadebench.study.study import PlannedRun, Study
from cascadebench.study.study_file import StudyFile, StudyVariant, load_protocol, read_study_file


def load_study(name: str) -> Study:
    """Read a study and everything that it names.

    Parameters
    ----------
    name : str
        A file name without ``.yaml`` under ``config/studies/``, the same with ``-tiny`` at its end for the study's tiny
        form, or a path that ends in ``.yaml``.

    Raises
    ------
    InputError
        Unknown key, wrong type, or a variant, framework, option, backbone, dataset or protocol that does not exist.
    """
    file, path = read_study_file(name)
    _check_complete(file, path)
    for key in ("frameworks", "backbones", "seeds", "imported"):
        values = getattr(file, key)
        if len(set(values)) != len(values):
            raise InputError(f"{path}: {key}: a value is given twice in {list(values)}")
    dataset = load_dataset_card(file.dataset, f"{path}: dataset")
    if not file.variants:
        return Study(file, None, dataset, ())
    if isinstance(dataset.data, AnnotationsAlone):
        raise InputError(f"{path}: dataset: {dataset.name} has no pictures; it can show imported detections alone")
    protocol = load_protocol(file.protocol, file.protocol_override, str(path))
    runs = tuple(_planned_runs(file, path, protocol, dataset))
    labels = {planned.label for planned in runs}
    if file.baseline not in labels:
        raise InputError(
            f"{path}: baseline: {file.baseline!r} is no variant's label; labels: {', '.join(sorted(labels))}"
        )
    _check_accepted(file, path, labels)
    if file.claims:
        find_claims(file.claims, f"{path}: claims")
    processes, passes = max(file.execution.gpus, 1), file.execution.accumulation
    for planned in runs:
        check_batch_division(planned.run, processes, passes, f"{path}: execution")
    ids = [planned.run.id for planned in runs]
    if len(set(ids)) != len(ids):
        raise InputError(f"{path}: variants: two entries are the same variant with the same options")
    by_label = {planned.label: [one.run for one in runs if one.label == planned.label] for planned in runs}
    swaps = planned_swaps(file.proposal_swaps, by_label, f"{path}: proposal_swaps")
    study = Study(file, protocol, dataset, runs, swaps)
    hypotheses_of(study, f"{path}: hypotheses")
    return study


_OF_VARIANTS = ("protocol", "frameworks", "backbones", "seeds", "baseline")


def _check_complete(file: StudyFile, path: Path) -> None:
    """A study with variants has all that they need; one without shows imported detections and nothing else."""
    if file.variants:
        for key in _OF_VARIANTS:
            if not getattr(file, key):
                raise InputError(f"{path}: {key}: missing or empty; a study with variants needs it")
        return
    if not file.imported:
        raise InputError(f"{path}: variants: at least one is expected, or a name under 'imported'")
    for key in (*_OF_VARIANTS, "protocol_override", "claims", "hypotheses", "accepted_violations", "proposal_swaps"):
        if getattr(file, key):
            raise InputError(f"{path}: {key}: means nothing without variants; a study of imported detections has none")


def check_controls(names: Sequence[str], asked_by: str) -> None:
    """Raise InputError at the first name that is no control's."""
    for name in names:
        if name not in CONTROLS:
            close = get_close_matches(name, CONTROLS, n=3)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise InputError(f"{asked_by}: unknown control {name!r}; {hint}docs/controlled-variables.md lists them")


def _check_accepted(file: StudyFile, path: Path, labels: set[str]) -> None:
    """Refuse an accepted violation whose control, variant or framework does not exist."""
    for number, entry in enumerate(file.accepted_violations):
        asked_by = f"{path}: accepted_violations[{number}]"
        check_controls([entry.control], f"{asked_by}.control")
        for key, found, known in (
            ("variant", entry.variant, sorted(labels)),
            ("framework", entry.framework, file.frameworks),
        ):
            if found is not None and found not in known:
                raise InputError(f"{asked_by}.{key}: {found!r} is not in the study; there are: {', '.join(known)}")


def _planned_runs(file: StudyFile, path: Path, protocol: Protocol, dataset: DatasetCard) -> list[PlannedRun]:
    """Every combination of variant, framework, backbone and seed, in that order."""
    frameworks = {name: load_framework_card(name, f"{path}: frameworks") for name in file.frameworks}
    for framework in frameworks:
        if protocol.rules not in ("aligned", framework):
            only = f"protocol {protocol.name} keeps the rules of {protocol.rules}, so it runs there alone"
            raise InputError(f"{path}: frameworks: {framework!r}: {only}")
    backbones = [load_backbone(name, f"{path}: backbones") for name in file.backbones]
    for backbone in backbones:
        check_pyramid(backbone, protocol.neck.channels, f"{path}: protocol {protocol.name}")
    runs: list[PlannedRun] = []
    for number, entry in enumerate(file.variants):
        asked_by = f"{path}: variants[{number}]"
        found = _variant(entry, file, path, asked_by)
        label = entry.label or found.card.title
        if label in {planned.label for planned in runs}:
            raise InputError(f"{asked_by}.label: {label!r} is taken; give each variant a label of its own")
        options = found.card.complete_options(entry.options, f"{asked_by}.options")
        chosen = chosen_variant(found, options, f"{asked_by}.options")
        if chosen.masks and not dataset.segmentations:
            said = "'segmentations: true' in its card would say that it has them"
            raise InputError(f"{asked_by}.variant: {chosen.name} needs masks; dataset {dataset.name} has none, {said}")
        treatment = frozenset(found.card.treatment_of(options))
        for framework, backbone, seed in product(frameworks, backbones, file.seeds):
            revisions = Revisions(
                library=LIBRARY_REVISION, adapter=frameworks[framework].revision, variant=found.card.revision
            )
            run = Run(
                framework=framework,
                variant=chosen,
                backbone=backbone,
                dataset=dataset,
                protocol=protocol,
                seed=seed,
                revisions=revisions,
            )
            if found.card.trained_as:
                run = _with_weights_of(found.card, run, runs, asked_by)
            runs.append(PlannedRun(label, run, treatment, found.card.values))
    return runs


def _variant(entry: StudyVariant, file: StudyFile, path: Path, asked_by: str) -> FoundVariant:
    """Find a variant of the study and check its card against the frameworks and the controls."""
    folders = [path.parent / folder for folder in file.variant_folders]
    found = find_variant(entry.variant, f"{asked_by}.variant", folders)
    for framework in file.frameworks:
        if framework not in found.card.frameworks:
            there = ", ".join(found.card.frameworks)
            raise InputError(f"{asked_by}.variant: {entry.variant} exists for: {there}; not {framework}")
    check_controls(found.card.treatment, f"{found.path}: treatment")
    for name, option in found.card.options.items():
        check_controls(option.treatment, f"{found.path}: options.{name}.treatment")
    for name in found.card.values:
        if name not in found.card.treatment:
            raise InputError(f"{found.path}: values: {name!r} is no control of the card's treatment")
    return found


def _with_weights_of(card: VariantCard, run: Run, planned: Sequence[PlannedRun], asked_by: str) -> Run:
    """Name the run of the study whose weights a variant without training of its own uses."""
    trained_as, own = card.trained_as, {"variant": run.variant, "revisions": run.revisions}
    for other in (one.run for one in planned):
        options = {name: other.variant.options.get(name) for name in trained_as.options}
        is_of = other.variant.name == trained_as.variant and options == trained_as.options
        if is_of and other.model_copy(update=own) == run:
            return run.model_copy(update={"variant": run.variant.model_copy(update={"weights_from": other.id})})
    given = "".join(f", {name}: {value}" for name, value in trained_as.options.items())
    raise InputError(
        f"{asked_by}.variant: {card.name} is not trained but uses the weights of {trained_as.variant}{given}; "
        "list that variant before it"
    )
