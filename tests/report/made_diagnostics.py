"""Diagnostics of a detector that exists in numbers alone: boxes drawn around objects, tighter from stage to stage."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
from detection_cases import annotations

from cascadebench.diagnostics.boxes import best_ground_truth
from cascadebench.diagnostics.error_kinds import ERROR_KINDS, error_kinds
from cascadebench.diagnostics.observations import (
    Candidates,
    GroundTruthBoxes,
    ImageObservation,
    StagePrediction,
    StageTraining,
    iou_thresholds,
    quality_stages,
)
from cascadebench.diagnostics.run_diagnostics import PredictionDiagnostics
from cascadebench.diagnostics.score_quality import SCORE_QUALITY, score_quality
from cascadebench.diagnostics.stage_statistics import StageStatisticsLog, write_stage_statistics
from cascadebench.metrics.coco.ap_table import write_ap
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.parquet import write_parquet
from cascadebench.study.proposal_swaps import WITH_GROUND_TRUTH
from cascadebench.study.run import Run

CATEGORIES, IMAGES, PROPOSALS = 3, 16, 100
SPREAD = (0.30, 0.12, 0.07, 0.055)
"""Noise of the boxes that enter stage 1, leave it, leave stage 2, leave stage 3, as a share of the object's sides."""


def _objects(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    count = int(rng.integers(1, 6))
    corner, side = rng.uniform(0, 300, (count, 2)), rng.uniform(20, 160, (count, 2))
    return np.concatenate([corner, corner + side], axis=1), rng.integers(0, CATEGORIES, count)


def _around(rng: np.random.Generator, objects: np.ndarray, spread: float) -> np.ndarray:
    sides = np.tile(objects[:, 2:] - objects[:, :2], 2)
    moved = objects + rng.normal(0, spread, objects.shape) * sides
    return np.concatenate([moved[:, :2], np.maximum(moved[:, 2:], moved[:, :2] + 1)], axis=1).astype(np.float32)


def _targets(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    side, theirs = boxes[:, 2:] - boxes[:, :2], objects[:, 2:] - objects[:, :2]
    shift = (objects[:, :2] + theirs / 2 - boxes[:, :2] - side / 2) / side
    return np.concatenate([shift, np.log(theirs / side)], axis=1)


def _probabilities(rng: np.random.Generator, ious: np.ndarray, labels: np.ndarray, threshold: float) -> np.ndarray:
    """A classifier that is sure away from its threshold."""
    logits = rng.normal(0, 0.6, (len(ious), CATEGORIES + 1))
    logits[np.arange(len(ious)), labels] += 14 * (ious - threshold) + 2
    logits[:, -1] += 2
    odds = np.exp(logits)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def _annotations(truths: dict[int, GroundTruthBoxes], names: list[str]) -> dict:
    boxes = [
        (image_id, label + 1, *box[:2], *(box[2:] - box[:2]))
        for image_id, truth in truths.items()
        for box, label in zip(truth.boxes, truth.labels, strict=True)
    ]
    return annotations(boxes, list(truths), names)


def _detections(observation: ImageObservation, box: int, classifier: int, label: str) -> pd.DataFrame:
    """Detections of a test stage, without NMS but for the best few per class."""
    boxes, odds = observation.stages[box].boxes, observation.stages[classifier].probabilities[:, :-1]
    best = odds.argmax(axis=1)
    chosen = np.argsort(-odds.max(axis=1), kind="stable")[:12]
    columns = {"image_id": observation.image_id, "test_stage": label, "category_id": best[chosen] + 1}
    sides = boxes[chosen, 2:] - boxes[chosen, :2]
    columns |= {"score": odds[chosen, best[chosen]], "x": boxes[chosen, 0], "y": boxes[chosen, 1]}
    return pd.DataFrame(columns | {"w": sides[:, 0], "h": sides[:, 1]})


def write_diagnostics(
    folder: Path, run: Run, categories: list[str], others: tuple[str, ...] = (), draw: int = 0
) -> None:
    """Write every diagnostic of a run; `others` are runs whose proposals it was given, another `draw` other numbers."""
    rng = np.random.default_rng([run.seed, run.variant.stages, draw])
    thresholds = iou_thresholds(run)
    observations, truths = [], {}
    for image_id in range(1, IMAGES + 1):
        objects, labels = _objects(rng)
        count = len(objects)
        area = (objects[:, 2:] - objects[:, :2]).prod(axis=1)
        truths[image_id] = GroundTruthBoxes(objects, labels, np.zeros(count, dtype=bool), area)
        of = rng.integers(0, count, PROPOSALS)
        boxes = [_around(rng, objects[of], spread) for spread in SPREAD[: run.variant.stages + 1]]
        boxes[0][::2] += rng.uniform(-400, 400, (PROPOSALS // 2, 1)).astype(np.float32)
        entering = [best_ground_truth(one, objects) for one in boxes]
        stages = tuple(
            StagePrediction(
                boxes[t], boxes[t + 1], _probabilities(rng, entering[t][0], labels[entering[t][1]], threshold)
            )
            for t, threshold in enumerate(thresholds)
        )
        candidates = Candidates(boxes[0], rng.uniform(size=PROPOSALS), rng.integers(0, 2, PROPOSALS))
        objectness = (entering[0][0] + rng.normal(0, 0.1, PROPOSALS)).astype(np.float32)
        observations.append(
            ImageObservation(image_id, boxes[0], objectness, stages, candidates if image_id < 4 else None)
        )

    prediction = PredictionDiagnostics(thresholds, truths)
    with closing(StageStatisticsLog(folder, thresholds, 0)) as log:
        for number, observation in enumerate(observations):
            prediction.add(observation)
            truth = truths[observation.image_id].boxes
            seen = [(stage.rois, *best_ground_truth(stage.rois, truth)) for stage in observation.stages]
            near = [(ious >= thresholds[0]) & (places >= 0) for _, ious, places in seen]
            log.add(number * 10, 1, [
                StageTraining(ious, _targets(rois[kept], truth[places[kept]]), ious[kept])
                for (rois, ious, places), kept in zip(seen, near, strict=True)
            ])  # fmt: skip
    write_stage_statistics(folder)
    prediction.write(folder)

    content = _annotations(truths, categories)
    truth = read_ground_truth(content)
    tables = [
        _detections(observation, stage.boxes - 1, stage.classifiers[-1] - 1, stage.label)
        for stage in run.variant.test_stages
        for observation in observations
    ]
    found = pd.concat(tables, ignore_index=True)
    write_parquet(folder / "error_kinds.parquet", error_kinds(truth, found), ERROR_KINDS)
    write_parquet(folder / "score_quality.parquet", score_quality(truth, found), SCORE_QUALITY)
    if run.variant.stages > 1:
        cells = quality_stages(run.variant.stages, run.variant.stages)
        tables = [_detections(one, cell.stage - 1, cell.head - 1, cell.label) for cell in cells for one in observations]
        write_ap(folder / "quality_ap.parquet", evaluate(content, pd.concat(tables, ignore_index=True)))
    for name in (WITH_GROUND_TRUTH, *others):
        last = len(thresholds) - 1
        tables = [_detections(one, last, last, run.variant.headline) for one in observations]
        path = folder / "proposals_of" / name / "ap.parquet"
        write_ap(path, evaluate(content, pd.concat(tables, ignore_index=True)))
