"""Writing ``examples.json`` and its thumbnails."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from PIL import Image as Picture

from cascadebench.core.errors import InputError
from cascadebench.core.files import write_json, written_beside
from cascadebench.datasets.prepared import ImageRecord, PreparedSplit, load_split
from cascadebench.examples.choice import MATCH_IOU, chosen_images, found_per_image, match_image
from cascadebench.examples.records import Box, Detected, Detection, ExampleImage, ExamplesFile
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.results.layout import ResultsFolder
from cascadebench.study.run import Run
from cascadebench.study.study import PlannedRun, Study, by_detector

LONGEST_SIDE = 320
"""Of a thumbnail, in pixels."""
JPEG_QUALITY = 80


def write_examples(study: Study, results: Path, score: float) -> None:
    """Write ``examples.json`` and ``examples/*.jpg`` under ``results/studies/<study>/``.

    Every detector stands with its first seed that is evaluated. The compared detector is the study's first with several
    stages, or else the first that is not the baseline.
    Detections with a score below `score` take no part.

    Raises
    ------
    InputError
        If the study has no runs, or the prepared dataset or a run's detections are missing or malformed.
    """
    if not study.runs:
        raise InputError(f"examples: study {study.name} has no runs; of imported detections no pictures are known")
    folders = ResultsFolder(results)
    split = load_split(folders.dataset(study.dataset.name).path, "val")
    evaluated = [planned for planned in study.runs if folders.run(planned.run.id).ap.exists()]
    shown = [runs[0] for runs in by_detector(evaluated).values()]
    detections_of = {planned.run.id: _headline_detections(folders, planned.run, score) for planned in shown}
    compared = _compared(study)
    pairs = _pairs(shown, compared, study.file.baseline)
    differences = dict.fromkeys((record.id for record in split.records), 0)
    for ours, theirs in pairs:
        for sign, run in ((1, ours), (-1, theirs)):
            for image, count in found_per_image(split.records, detections_of[run], split.category_ids).items():
                differences[image] += sign * count
    records = {record.id: record for record in split.records}
    names = dict(zip(split.category_ids, study.dataset.categories, strict=True))
    folder = folders.study(study.name)
    images = []
    for image, reason in chosen_images(sorted(records), differences):
        record, thumbnail = records[image], f"{folder.thumbnails.name}/{image}.jpg"
        images.append(
            ExampleImage(
                id=image,
                file_name=record.path.name,
                width=record.width,
                height=record.height,
                reason=reason,
                difference=differences[image],
                thumbnail=thumbnail if _write_thumbnail(record.path, folder.path / thumbnail) else None,
                objects=tuple(
                    Box(category=study.dataset.categories[label], **_sides(x1, y1, x2 - x1, y2 - y1))
                    for (x1, y1, x2, y2), label in zip(record.boxes.tolist(), record.labels, strict=True)
                ),
                detected=tuple(_detected(record, run, rows, split, names) for run, rows in detections_of.items()),
            )
        )
    file = ExamplesFile(
        score=score,
        iou=MATCH_IOU,
        baseline=study.file.baseline,
        compared=compared if pairs else None,
        compared_runs=tuple(pairs),
        images_in_all=len(records),
        images=tuple(images),
    )
    _remove_others(folder.thumbnails, images)
    write_json(folder.examples, file.model_dump(mode="json"))


def _headline_detections(folders: ResultsFolder, run: Run, score: float) -> pd.DataFrame:
    """Detections of the headline test stage from `score` on, best first."""
    rows = read_detections(folders.run(run.id).detections)
    rows = rows[(rows["test_stage"] == run.variant.headline) & (rows["score"] >= score)]
    return rows.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)


def _compared(study: Study) -> str | None:
    others = [one for one in study.runs if one.label != study.file.baseline]
    cascades = [one for one in others if one.run.variant.stages > 1]
    return next((one.label for one in [*cascades, *others]), None)


def _pairs(shown: Iterable[PlannedRun], compared: str | None, baseline: str) -> list[tuple[str, str]]:
    """Runs of the compared detector, each with the baseline's of the same framework, backbone and seed."""
    runs = {(planned.detector, planned.run.seed): planned.run.id for planned in shown}
    pairs = (
        (run, runs.get((replace(detector, label=baseline), seed)))
        for (detector, seed), run in runs.items()
        if detector.label == compared
    )
    return [(ours, theirs) for ours, theirs in pairs if theirs is not None]


def _sides(x: float, y: float, w: float, h: float) -> dict[str, float]:
    """A tenth of a pixel is more than a picture shows."""
    return {name: round(float(value), 1) for name, value in zip("xywh", (x, y, w, h), strict=True)}


def _detected(
    record: ImageRecord, run: str, rows: pd.DataFrame, split: PreparedSplit, names: dict[int, str]
) -> Detected:
    here = rows[rows["image_id"] == record.id]
    matched, detected = match_image(record, here, split.category_ids)
    detections = tuple(
        Detection(
            category=names[row.category_id],
            score=round(float(row.score), 3),
            matched=bool(hit),
            **_sides(row.x, row.y, row.w, row.h),
        )
        for row, hit in zip(here.itertuples(), matched, strict=True)
    )
    return Detected(run=run, detections=detections, missed=tuple((~detected).nonzero()[0].tolist()))


def _write_thumbnail(picture: Path, thumbnail: Path) -> bool:
    """Write a small JPEG without any of the picture's metadata; False if the picture cannot be read."""
    try:
        with Picture.open(picture) as opened:
            small = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError):
        return False
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    with written_beside(thumbnail) as path:
        small.save(path, format="JPEG", quality=JPEG_QUALITY)
    return True


def _remove_others(folder: Path, images: Iterable[ExampleImage]) -> None:
    """Remove thumbnails of images that are no longer among the examples."""
    kept = {Path(image.thumbnail).name for image in images if image.thumbnail}
    for path in folder.glob("*.jpg"):
        if path.name not in kept:
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)  # the pipeline expects it, with or without pictures
