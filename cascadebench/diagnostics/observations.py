"""What adapters hand over: plain arrays of one training iteration, or of one image of the prediction pass.

Boxes are x1, y1, x2, y2 in pixels of the original image, float32. Stages, classifiers and regressors count from 1.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from cascadebench.diagnostics.boxes import corners
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


@dataclass(frozen=True)
class StageTraining:
    """The RoIs of a step that enter one stage, of all images that this process trains on.

    Where classifier and regressor have RoIs of their own, those of the regressor.
    """

    ious: np.ndarray
    """float [R]: highest IoU of each RoI with the ground truth of its image, 0 without any; before sampling, and
    without the ground truth that is added to the RoIs."""
    targets: np.ndarray
    """float [P, 4]: dx, dy, dw, dh to the best ground truth, not normalised, of the RoIs at or above the first stage's
    IoU threshold."""
    target_ious: np.ndarray
    """float [P]: their IoU."""


@dataclass(frozen=True)
class GroundTruthBoxes:
    """Ground truth of one image; crowd regions take no part in any diagnostic."""

    boxes: np.ndarray
    """float [G, 4]."""
    labels: np.ndarray
    """int64 [G]: position of the category in the order of the model's outputs, from 0."""
    crowd: np.ndarray
    """bool [G]."""
    areas: np.ndarray
    """float64 [G]: the annotations' ``area`` in square pixels, which says what is small, medium and large."""

    def without_crowd(self) -> "GroundTruthBoxes":
        """Return the ground truth that counts."""
        kept = ~np.asarray(self.crowd, dtype=bool)
        return GroundTruthBoxes(self.boxes[kept], self.labels[kept], self.crowd[kept], self.areas[kept])


@dataclass(frozen=True)
class StagePrediction:
    """One stage on one image."""

    rois: np.ndarray
    """float32 [R, 4]: RoIs that enter, row by row those of the proposals."""
    boxes: np.ndarray | None
    """float32 [R, 4]: boxes that leave; of a regressor with boxes for every class, those of the class that it would go
    on with (the highest score, background apart). None: no regressor."""
    probabilities: np.ndarray | None
    """float32 [R, C + 1]: class probabilities on `rois`, background last. None: no classifier."""


@dataclass(frozen=True)
class Candidates:
    """RPN candidates of one image before NMS, after the cut to the best of each level."""

    boxes: np.ndarray
    """float32 [N, 4]."""
    scores: np.ndarray
    """float32 [N]."""
    levels: np.ndarray
    """int [N]: level of the feature pyramid; NMS acts within one."""


@dataclass(frozen=True)
class ImageObservation:
    """What the one pass over an image gives beside its detections."""

    image_id: int
    proposals: np.ndarray
    """float32 [R, 4]."""
    objectness: np.ndarray
    """float32 [R]."""
    stages: tuple[StagePrediction, ...]
    """As many as there are regressors or classifiers, whichever are more."""
    candidates: Candidates | None = None
    """Of a small number of images that the adapter chooses."""


@dataclass(frozen=True, order=True)
class QualityStage:
    """A cell of the quality matrix: a head on the RoIs of a stage, as detections of a test stage of its own.

    The question is that of Cai and Vasconcelos, Cascade R-CNN, TPAMI 2019, Fig. 8: does a head need the RoIs that it
    was trained on. Head t on the RoIs of stage s gives boxes and scores together, which no test stage (i, j) does.
    """

    head: int
    """Head whose classifier and regressor are used, from 1."""
    stage: int
    """Stage whose entering RoIs it is given, from 1; those of stage 1 are the proposals."""

    @property
    def label(self) -> str:
        """The test stage's name in ``quality_detections.parquet``: ``head 3 on stage 1``."""
        return f"head {self.head} on stage {self.stage}"

    @classmethod
    def parse(cls, label: str) -> Self:
        """Read a label; raises ValueError if it is none."""
        match = re.fullmatch(r"head ([1-9]) on stage ([1-9])", label)
        if not match:
            raise ValueError(f"{label!r} is no cell of a quality matrix, such as head 3 on stage 1")
        return cls(int(match[1]), int(match[2]))


def quality_stages(heads: int, stages: int) -> list[QualityStage]:
    """All cells of a detector with so many whole heads (classifier and regressor) and stages, head by head."""
    return [QualityStage(head, stage) for head in range(1, heads + 1) for stage in range(1, stages + 1)]


def iou_thresholds(run: Run) -> list[float]:
    """IoU threshold of every regressor or classifier of a run, whichever are more.

    A head that is applied again at test has the threshold that it was trained with.
    """
    thresholds = [stage.iou_threshold for stage in stage_settings(run)]
    count = max(run.variant.stages, run.variant.classifiers)
    return [thresholds[min(stage, len(thresholds) - 1)] for stage in range(count)]


def ground_truth_by_image(annotations: Path, categories: tuple[str, ...]) -> Mapping[int, GroundTruthBoxes]:
    """Read the ground truth of a prepared split, ``val.json``, for the diagnostics of a prediction.

    Every image has its entry, by id; boxes are float64, as the evaluation reads them. `categories` are names in the
    order of the model's outputs, as in the dataset card.
    """
    truth = read_ground_truth(annotations)
    rows = truth.boxes
    label_of = dict(zip(truth.category_ids.tolist(), map(categories.index, truth.category_names), strict=True))
    boxes, labels = corners(rows), rows["category_id"].map(label_of).to_numpy(dtype=np.int64)
    crowd, areas = rows["iscrowd"].to_numpy() == 1, rows["area"].to_numpy(dtype=np.float64)
    rows_of, found = rows.groupby("image_id").indices, {}
    for image_id in truth.image_ids.tolist():
        chosen = np.sort(rows_of.get(image_id, np.empty(0, dtype=np.int64)))
        found[image_id] = GroundTruthBoxes(boxes[chosen], labels[chosen], crowd[chosen], areas[chosen])
    return found
