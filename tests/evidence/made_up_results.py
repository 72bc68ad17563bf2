"""A study's results with detections made by hand: two classes, an object or two in every image."""

import dataclasses
import json
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from cascadebench.controls.audit import Audit
from cascadebench.metrics.coco.detections import write_detections
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study
from cascadebench.tables.run_evaluation import evaluate_run

IMAGES, SIDE = 60, 40
SHIFTS = {1: 9, 2: 6, 3: 2}
"""Pixels by which the boxes of a regressor miss, at most; three in ten miss by 6 to 12, an IoU of 0.74 to 0.54."""


def study_of(folder: Path, **about: object) -> Study:
    """A study on COCO with ResNet-50, as its file says it; `about` are keys of the file."""
    content = {"name": "made_up", "title": "Made up", "dataset": "coco2017", "protocol": "coco_1x"}
    content |= {"frameworks": ["mmdet", "detectron2"], "backbones": ["resnet50"], "seeds": [0]}
    path = folder / "made_up.yaml"
    path.write_text(yaml.safe_dump(content | about), encoding="utf-8")
    return load_study(str(path))


def write_truth(results: Path, study: Study) -> dict:
    """The annotations of the study's validation set."""
    random = np.random.default_rng(0)
    objects = [
        {"image_id": image, "category_id": int(random.integers(1, 3)), "iscrowd": 0, "area": SIDE**2}
        | {"bbox": [int(random.integers(0, 50)), 90 * number, SIDE, SIDE]}
        for image in range(IMAGES)
        for number in range(int(random.integers(1, 3)))
    ]
    truth = {
        "images": [{"id": n, "file_name": "-", "width": 200, "height": 200} for n in range(IMAGES)],
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "bar"}],
        "annotations": [{"id": number} | one for number, one in enumerate(objects, start=1)],
    }
    folder = results / "datasets" / study.dataset.name
    folder.mkdir(parents=True)
    (folder / "val.json").write_text(json.dumps(truth))
    return truth


def write_run(results: Path, study: Study, run_id: str, truth: dict, found: dict[str, float]) -> Path:
    """A run's folder; `found` is the share of objects that a test stage finds, 0.85 where it is not named."""
    run, folder = study.run(run_id), results / "runs" / run_id
    folder.mkdir(parents=True)
    run.write(folder / "run.yaml")
    rows = []
    for stage in run.variant.test_stages:
        random = np.random.default_rng(zlib.crc32(f"{run_id} {stage.label}".encode()))
        for one in truth["annotations"]:
            x, y, w, h = one["bbox"]
            hit = random.random() < found.get(stage.label, 0.85)
            placed = random.uniform(6, 12) if random.random() < 0.3 else random.uniform(0, SHIFTS.get(stage.boxes, 1))
            shift = placed if hit else 60
            rows.append((one["image_id"], stage.label, one["category_id"], random.random(), x + shift, y, w, h))
    names = ["image_id", "test_stage", "category_id", "score", "x", "y", "w", "h"]
    write_detections(folder / "detections.parquet", pd.DataFrame(rows, columns=names))
    evaluate_run(folder, results / "datasets" / study.dataset.name)
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
