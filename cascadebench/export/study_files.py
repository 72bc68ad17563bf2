"""Which files of a study go into its export, and where they stand in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cascadebench.core.configuration import CONFIG, PROJECT, named_file
from cascadebench.detectors.cards import ADAPTERS, VARIANTS
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.detectors.variant_sources import variant_sources
from cascadebench.report.data.collect import TABLES
from cascadebench.results.layout import (
    EVALUATION_FILES,
    RESULTS,
    ResultsFolder,
    RunFolder,
    report_of,
)
from cascadebench.results.run_state import run_state
from cascadebench.study.study import Study
from cascadebench.study.study_file import STUDIES, TINY_FORM, read_study_file

RUN_MANIFESTS = (
    RunFolder.run, RunFolder.controls, RunFolder.cost, RunFolder.trained, RunFolder.predicted, RunFolder.failed,
    RunFolder.train_log,
)  # fmt: skip
RUN_NUMBERS = (
    RunFolder.stage_statistics, RunFolder.localization, RunFolder.recall, RunFolder.nms_survivors, *EVALUATION_FILES,
)  # fmt: skip
"""What the report is made of beside the manifests; small against the detections."""
RUN_DETECTIONS = (RunFolder.detections, RunFolder.proposals, RunFolder.quality_detections)


@dataclass(frozen=True)
class ExportedFile:
    """A file of an export."""

    source: Path
    """Where it lies."""
    place: str
    """Path in the export, with ``/``."""
    words: str
    """What it is."""
    run: str = ""
    """Id of the run whose it is; empty: the study's."""


@dataclass(frozen=True)
class StudyFiles:
    """All files of an export, sorted by place, and one phrase for everything that is missing."""

    files: tuple[ExportedFile, ...]
    missing: tuple[str, ...]


def study_files(study: Study, name: str, results: Path, report: Path, detections: bool) -> StudyFiles:
    """Find the files of a study.

    Parameters
    ----------
    name : str
        By which the study was loaded.
    results : Path
        The folder that holds ``studies/``, ``runs/``, ``datasets/`` and ``imported/``.
    report : Path
        The HTML report.
    detections : bool
        Whether detections and proposals go in.
    """
    missing, folders = [], ResultsFolder(results)
    files = [
        *_configuration(study, name),
        *_of_runs(study, folders, detections),
        *_imported(study, folders, detections),
    ]
    tables = folders.study(study.name)
    found = sorted([*tables.path.glob("*.csv"), *tables.path.glob("*.json")])
    files += [_result(folders, path, f"Table of the study: {path.stem}") for path in found]
    files += [_result(folders, path, "Picture of an example") for path in sorted(tables.thumbnails.glob("*.jpg"))]
    expected = [tables.table(name) for name in TABLES if study.masks or name != "ap_masks"]
    expected += [tables.audit] * bool(study.runs)
    absent = [path.name for path in expected if not path.is_file()]
    missing += [f"tables {', '.join(absent)}"] * bool(absent)
    lock = folders.dataset(study.dataset.name).lock
    for file in (
        _result(folders, lock, "Counts and checksums of the dataset"),
        ExportedFile(report, str(report_of(study.name)), "Report of the study, one page that opens offline"),
    ):
        if file.source.is_file():
            files.append(file)
        else:
            missing.append(f"{file.place} ({file.words[0].lower()}{file.words[1:]})")
    for planned in study.runs:
        state, detail = run_state(folders.run(planned.run.id).path)
        if state != "evaluated":
            missing.append(f"results of run {planned.run.id}: {state}{f' ({detail})' if detail else ''}")
    for name in study.file.imported:
        if not folders.imported(name).record.is_file():
            missing.append(f"imported detections {name}")
    return StudyFiles(tuple(sorted(set(files), key=lambda file: file.place)), tuple(missing))


def _result(results: ResultsFolder, path: Path, words: str, run: str = "") -> ExportedFile:
    """A file of the results, at the same place below ``results/``."""
    return ExportedFile(path, str(RESULTS / path.relative_to(results.path)), words, run)


def _of_runs(study: Study, results: ResultsFolder, detections: bool) -> Iterator[ExportedFile]:
    """What every run's folder holds of what is exported."""
    names = (*RUN_MANIFESTS, *RUN_NUMBERS, *RUN_DETECTIONS * detections)
    for planned in study.runs:
        folder = results.run(planned.run.id)
        paths = [folder.path / name for name in names]
        for swap in folder.proposal_swaps():
            paths += [swap.ap, *[swap.detections] * detections]
        for path in paths:
            if path.is_file():
                inside = path.relative_to(folder.path).as_posix()
                words = f"{inside} of {planned.title}"
                yield _result(results, path, words, planned.run.id)


def _imported(study: Study, results: ResultsFolder, detections: bool) -> Iterator[ExportedFile]:
    """Imported detections that the study names."""
    for name in study.file.imported:
        folder = results.imported(name)
        for path in (folder.record, folder.ap, *[folder.detections] * detections):
            if path.is_file():
                yield _result(results, path, f"{path.name} of the imported detections {name}")


def _configuration(study: Study, name: str) -> Iterator[ExportedFile]:
    """Everything that was written by hand: study, protocol, dataset, backbones, cards, variants."""
    _, path = read_study_file(name)
    yield _configured(path, STUDIES, "Study")
    if study.name != path.stem:
        yield _configured(TINY_FORM, STUDIES, "What the tiny form of a study replaces")
    yield _configured(named_file(CONFIG / "datasets", study.file.dataset, name), CONFIG / "datasets", "Dataset card")
    if not study.runs:
        return
    folder = CONFIG / "protocols"
    yield _configured(named_file(folder, study.file.protocol, name), folder, "Protocol")
    for backbone in study.file.backbones:
        folder = CONFIG / "backbones"
        yield _configured(named_file(folder, backbone, name), folder, "Backbone")
    for framework in study.file.frameworks:
        yield _configured(ADAPTERS / framework / "card.yaml", ADAPTERS / framework, "Framework card")
    folders = [path.parent / folder for folder in study.file.variant_folders]
    for entry in study.file.variants:
        for place, source in variant_sources(find_variant(entry.variant, name, folders).folder).items():
            words = "Module of a variant:" if source.suffix == ".py" else "Variant card"
            yield _configured(source, (VARIANTS / entry.variant / place).parent, words)


def _configured(path: Path, folder: Path, words: str) -> ExportedFile:
    """A file of the project at its place; one from elsewhere as if it lay in `folder` of the project."""
    absolute = path.resolve()
    inside = absolute.is_relative_to(PROJECT)
    place = absolute.relative_to(PROJECT) if inside else (folder / path.name).relative_to(PROJECT)
    return ExportedFile(path, place.as_posix(), f"{words} {path.stem}" if path.stem != "card" else words)
