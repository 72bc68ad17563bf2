"""A study's results with detections made by hand."""

import dataclasses
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from detection_cases import annotations, detections

from cascadebench.controls.findings import Audit
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.metrics.coco.detections import write_detections
from cascadebench.study.run import Run
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study
from cascadebench.tables.run_evaluation import evaluate_run

IMAGES, SIDE = 60, 40
SHIFTS = {1: 9, 2: 6, 3: 2}
"""Pixels by which the boxes of a regressor miss, at most; three in ten miss by 6 to 12, an IoU of 0.74 to 0.54."""


FEW_PARAMETERS = {
    "id": "few-parameters",
    "words": "Sharing adds few parameters.",
    "quantity": [{"variant": "fscascade", "metric": "trainable_parameters"}],
    "divided_by": [{"variant": "cascade_rcnn", "metric": "trainable_parameters"}],
    "asks": "no greater",
    "margin": 0.05,
    "reason": "A twentieth is few.",
}
"""A hypothesis about a ratio of what is counted."""


def study_of(folder: Path, **about: object) -> Study:
    """A study on COCO with ResNet-50, as its file says it; `about` are keys of the file."""
    content = {"name": "made_up", "title": "Made up", "dataset": "coco2017", "protocol": "coco_1x"}
    content |= {"frameworks": ["mmdet", "detectron2"], "backbones": ["resnet50"], "seeds": [0]}
    path = folder / "made_up.yaml"
    path.write_text(yaml.safe_dump(content | about), encoding="utf-8")
    return load_study(str(path))


def write_truth(results: Path, study: Study, truth: dict | None = None) -> dict:
    """The annotations of the study's validation set: two classes, an object or two in every image, if not given."""
    if truth is None:
        random = np.random.default_rng(0)
        boxes = [
            (image, int(random.integers(1, 3)), int(random.integers(0, 50)), 90 * number, SIDE, SIDE)
            for image in range(IMAGES)
            for number in range(int(random.integers(1, 3)))
        ]
        truth = annotations(boxes, IMAGES, ["disc", "bar"], file_name="-", width=200, height=200)
    folder = results / "datasets" / study.dataset.name
    folder.mkdir(parents=True)
    (folder / "val.json").write_text(json.dumps(truth))
    return truth


def misses(found: dict[str, float]) -> Callable:
    """Pixels by which a box misses; `found` is the share of objects that a test stage finds, 0.85 if not named."""

    def pixels(stage: TestStage, random: np.random.Generator) -> float:
        hit = random.random() < found.get(stage.label, 0.85)
        placed = random.uniform(6, 12) if random.random() < 0.3 else random.uniform(0, SHIFTS.get(stage.boxes, 1))
        return placed if hit else 60

    return pixels


def write_run(
    results: Path, run: Run, truth: dict, pixels: Callable, random: np.random.Generator | None = None
) -> Path:
    """A run's folder: every test stage has a box for every object, so many `pixels` beside it."""
    folder = results / "runs" / run.id
    run.write(folder / "run.yaml")
    tables = []
    for stage in run.variant.test_stages:
        drawn = random or np.random.default_rng(zlib.crc32(f"{run.id} {stage.label}".encode()))
        rows = []
        for one in truth["annotations"]:
            x, y, w, h = one["bbox"]
            shift = pixels(stage, drawn)
            rows.append((one["image_id"], one["category_id"], drawn.random(), x + shift, y, w, h))
        tables.append(detections(rows, stage.label))
    write_detections(folder / "detections.parquet", pd.concat(tables).astype({"test_stage": str}))
    evaluate_run(folder, results / "datasets" / run.dataset.name)
    trainable = {"cascade_rcnn": 69_000_000, "fscascade": 70_500_000}.get(run.variant.name, 41_000_000)
    (folder / "cost.json").write_text(json.dumps({"trainable_parameters": trainable, "flops": 2 * trainable}))
    (folder / "predicted.json").write_text(json.dumps({"seconds_per_image": 0.05}))
    return folder


def write_clean_audit(results: Path, study: Study) -> None:
    """An audit without findings."""
    audit = Audit(study.name, len(study.runs), 1, ())
    folder = results / "studies" / study.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(json.dumps({"passed": True, "verdict": "-"} | dataclasses.asdict(audit)))
