"""Bringing in detections of any model from outside: checked, stored as the pipeline's own are, and evaluated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cascadebench.core.errors import InputError
from cascadebench.core.files import now, sha256_of, write_json
from cascadebench.imported.record import ImportedFile, SourceFile, imported_folder
from cascadebench.metrics.coco.ap_table import write_ap
from cascadebench.metrics.coco.detections import (
    DETECTIONS,
    read_coco_results,
    read_detections,
    write_imported_detections,
)
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import check_known, ground_truth_table
from cascadebench.results.layout import ResultsFolder

FINAL = "final"
"""Test stage of a file that is the only one."""


@dataclass(frozen=True)
class About:
    """What a user says of the detections."""

    title: str = ""
    """Label in tables and pictures; empty: the name."""
    notes: str = ""
    """Where the model comes from."""
    headline: str = ""
    """Test stage that stands for the model; empty: the last one given."""
    made_with: Mapping[str, Any] = field(default_factory=dict)
    """Framework, versions and device, where a checkpoint was run here."""
    sources: Sequence[SourceFile] = ()
    """Files that are no detections, such as a checkpoint."""


def import_files(
    name: str, dataset: str, results: Path, files: Sequence[Path], stage_files: Sequence[str], about: About
) -> ImportedFile:
    """Import files of detections; see :func:`import_rows`.

    Parameters
    ----------
    files : sequence of Path
        One file: COCO results, ``.json``, which become the test stage ``final``, or a ``.parquet`` with test stages of
        its own.
    stage_files : sequence of str
        In its place, ``TEST STAGE=FILE`` for every test stage, such as ``(3,3)=last.json``.

    Raises
    ------
    InputError
        As :func:`import_rows`, and if there is no file or a test stage twice, or a file is missing or malformed.
    """
    named = [_stage_and_file(text) for text in stage_files]
    if len(files) + bool(named) != 1:
        raise InputError(f"import {name}: give one file, or --test-stage 'STAGE=FILE' for each of several")
    given, parts, sources = [("", path) for path in files] or named, [], []
    for stage, path in given:
        if path.suffix not in (".json", ".parquet"):
            raise InputError(f"{path}: detections are COCO results, .json, or .parquet")
        rows = read_coco_results(path) if path.suffix == ".json" else read_detections(path)
        if not stage and path.suffix == ".json":
            stage = FINAL
        if stage and rows["test_stage"].nunique() > 1:
            there = ", ".join(rows["test_stage"].unique())
            raise InputError(f"{path}: it has several test stages of its own: {there}; give it without --test-stage")
        parts.append(rows.assign(test_stage=stage) if stage else rows)
        sources.append(SourceFile(name=path.name, sha256=sha256_of(path), test_stage=stage))
    stages = [stage for stage, _ in named] or (
        [FINAL] if sources[0].test_stage else list(parts[0]["test_stage"].unique())
    )
    if len(set(stages)) != len(stages):
        raise InputError(f"import {name}: --test-stage: a test stage is given twice in {', '.join(stages)}")
    if not stages:
        raise InputError(f"{files[0]}: no detection, and no test stage is named that could have none")
    table = ground_truth_table(read_ground_truth(_ground_truth(dataset, results)))
    for part, (_, path) in zip(parts, given, strict=True):
        check_known(part, table, str(path))
    columns = [*DETECTIONS.names]
    rows = pd.concat([part[columns].astype({"test_stage": str}) for part in parts], ignore_index=True)
    whole = replace(about, sources=[*sources, *about.sources])
    source = ", ".join(str(path) for _, path in given)
    return import_rows(name, dataset, results, rows, stages, whole, source)


def _stage_and_file(text: str) -> tuple[str, Path]:
    stage, equals, path = text.partition("=")
    if not (stage.strip() and equals and path):
        raise InputError(f"--test-stage: {text!r}; STAGE=FILE is expected, such as '(3,3)=last.json'")
    return stage.strip(), Path(path)


def import_rows(
    name: str, dataset: str, results: Path, rows: pd.DataFrame, test_stages: Sequence[str], about: About, source: str
) -> ImportedFile:
    """Write ``results/imported/<name>/``: ``detections.parquet``, ``ap.parquet`` and, last, ``imported.json``.

    Parameters
    ----------
    dataset : str
        Name of a prepared dataset.
    rows : DataFrame
        Detections, as :func:`cascadebench.metrics.coco.detections.read_detections` returns them.
    test_stages : sequence of str
        All test stages, with those that detected nothing.
    source : str
        What messages call the detections.

    Raises
    ------
    InputError
        If the dataset is not prepared, a detection is on an image or category that it does not have, or the headline is
        no test stage.
    """
    folder, truth = imported_folder(results, name), _ground_truth(dataset, results)
    headline = about.headline or test_stages[-1]
    if headline not in test_stages:
        raise InputError(
            f"import {name}: --headline: {headline!r} is no test stage; there are: {', '.join(test_stages)}"
        )
    place = {stage: number for number, stage in enumerate(test_stages)}
    places = rows["test_stage"].astype(str).map(place).to_numpy(dtype=np.int64)
    order = np.lexsort([-rows["score"].to_numpy(), rows["image_id"].to_numpy(), places])
    ordered = rows.iloc[order].reset_index(drop=True)
    ordered["test_stage"] = pd.Categorical(ordered["test_stage"], categories=list(test_stages))
    table = evaluate(truth, ordered, test_stages, source=source)  # every check, before a file changes
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.record.unlink(missing_ok=True)
    write_imported_detections(folder.detections, ordered)
    write_ap(folder.ap, table)
    written = ImportedFile(
        name=name,
        title=about.title or name,
        notes=about.notes,
        dataset=dataset,
        ground_truth_sha256=sha256_of(truth),
        detections=len(rows),
        detections_sha256=sha256_of(folder.detections),
        test_stages=tuple(test_stages),
        headline=headline,
        files=tuple(about.sources),
        made_with=dict(about.made_with),
        time=now(),
    )
    write_json(folder.record, written.model_dump(mode="json"))
    return written


def _ground_truth(dataset: str, results: Path) -> Path:
    """The annotations of a prepared dataset that detections are evaluated on."""
    truth = ResultsFolder(results).dataset(dataset).val
    if not truth.is_file():
        prepare = f"`cascadebench prepare {dataset} --out {truth.parent}` writes it"
        raise InputError(f"{truth}: no such file; {prepare}")
    return truth
