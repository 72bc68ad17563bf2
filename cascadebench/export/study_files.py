"""Which files of a study go into its export, and where they stand in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cascadebench.core.configuration import CONFIG, PROJECT, named_file
from cascadebench.detectors.cards import ADAPTERS, VARIANTS
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.detectors.variant_sources import variant_sources
from cascadebench.report.data.collect import TABLES
from cascadebench.study.study import Study
from cascadebench.study.study_file import STUDIES, TINY_FORM, read_study_file
from cascadebench.tables.aggregate import run_state

RUN_MANIFESTS = (
    "run.yaml", "controls.json", "cost.json", "trained.json", "predicted.json", "failed.json", "train_log.jsonl",
)  # fmt: skip
RUN_NUMBERS = (
    "ap.parquet", "stage_statistics.parquet", "localization.parquet", "recall.parquet", "nms_survivors.parquet",
    "quality_ap.parquet", "error_kinds.parquet", "score_quality.parquet",
)  # fmt: skip
"""What the report is made of beside the manifests; small against the detections."""
RUN_DETECTIONS = ("detections.parquet", "proposals.parquet", "quality_detections.parquet")


@dataclass(frozen=True)
class ExportedFile:
    """A file of an export.

    Attributes
    ----------
    source : Path
        Where it lies.
    place : str
        Path in the export, with ``/``.
    words : str
        What it is.
    run : str
        Id of the run whose it is; empty: the study's.
    """

    source: Path
    place: str
    words: str
    run: str = ""


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
    missing = []
    files = [
        *_configuration(study, name),
        *_of_runs(study, results, detections),
        *_imported(study, results, detections),
    ]
    tables = results / "studies" / study.name
    found = sorted([*tables.glob("*.csv"), *tables.glob("*.json")])
    files += [ExportedFile(path, f"results/studies/{study.name}/{path.name}", f"Table of the study: {path.stem}")
              for path in found]  # fmt: skip
    files += [ExportedFile(path, f"results/studies/{study.name}/examples/{path.name}", "Picture of an example")
              for path in sorted(tables.glob("examples/*.jpg"))]  # fmt: skip
    expected = [name for name in TABLES if study.masks or name != "ap_masks"]
    expected = [*(f"{name}.csv" for name in expected), *["audit.json"] * bool(study.runs)]
    absent = [name for name in expected if not (tables / name).is_file()]
    missing += [f"tables {', '.join(absent)}"] * bool(absent)
    for path, place, words in (
        (results / "datasets" / study.dataset.name / "lock.json", f"results/datasets/{study.dataset.name}/lock.json",
         "Counts and checksums of the dataset"),
        (report, f"reports/{study.name}.html", "Report of the study, one page that opens offline"),
    ):  # fmt: skip
        if path.is_file():
            files.append(ExportedFile(path, place, words))
        else:
            missing.append(f"{place} ({words[0].lower()}{words[1:]})")
    for planned in study.runs:
        state, detail = run_state(results / "runs" / planned.run.id)
        if state != "evaluated":
            missing.append(f"results of run {planned.run.id}: {state}{f' ({detail})' if detail else ''}")
    for name in study.file.imported:
        if not (results / "imported" / name / "imported.json").is_file():
            missing.append(f"imported detections {name}")
    return StudyFiles(tuple(sorted(set(files), key=lambda file: file.place)), tuple(missing))


def _of_runs(study: Study, results: Path, detections: bool) -> Iterator[ExportedFile]:
    """What every run's folder holds of what is exported."""
    names = (*RUN_MANIFESTS, *RUN_NUMBERS, *RUN_DETECTIONS * detections)
    for planned in study.runs:
        folder = results / "runs" / planned.run.id
        paths = [folder / name for name in names]
        paths += sorted(folder.glob("proposals_of/*/ap.parquet"))
        paths += sorted(folder.glob("proposals_of/*/detections.parquet")) * detections
        for path in paths:
            if path.is_file():
                inside = path.relative_to(folder).as_posix()
                words = f"{inside} of {planned.label}, {planned.run.framework}, seed {planned.run.seed}"
                yield ExportedFile(path, f"results/runs/{planned.run.id}/{inside}", words, planned.run.id)


def _imported(study: Study, results: Path, detections: bool) -> Iterator[ExportedFile]:
    """Imported detections that the study names."""
    for name in study.file.imported:
        for file in ("imported.json", "ap.parquet", *["detections.parquet"] * detections):
            path = results / "imported" / name / file
            if path.is_file():
                yield ExportedFile(path, f"results/imported/{name}/{file}", f"{file} of the imported detections {name}")


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
