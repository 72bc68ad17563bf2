"""Generated ground truth and detections of the size of COCO's validation set, for measurements."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cascadebench.metrics.coco.ground_truth import GroundTruth

_WIDTH, _HEIGHT = 640.0, 480.0
_BY_DETECTOR = {"score": "float32", "x": "float32", "y": "float32", "w": "float32", "h": "float32"}


@dataclass(frozen=True)
class Detector:
    """How the detections of a made-up detector scatter.

    Attributes
    ----------
    found : float
        Share of objects that it finds, on the average over images.
    spread : float
        Scatter of a box's corner and sides, as a share of its side.
    """

    found: float = 0.85
    spread: float = 0.07


def generated_truth(
    random: np.random.Generator, images: int = 5000, classes: int = 80, objects: int = 36335, crowds: int = 446
) -> GroundTruth:
    """Objects that lie as unevenly over images and classes as COCO's: few images and classes hold many of them."""
    count = objects + crowds
    share = 1 / np.arange(1, classes + 1) ** 1.1
    category = random.choice(classes, size=count, p=share / share.sum())
    busy = random.gamma(1.0, 1.0, size=images)
    image = np.sort(random.choice(images, size=count, p=busy / busy.sum()))
    sides = np.exp(random.normal(4.0, 1.0, size=(count, 2))).clip(4, [_WIDTH, _HEIGHT])
    corner = random.uniform(size=(count, 2)) * (np.array([_WIDTH, _HEIGHT]) - sides)
    crowd = np.zeros(count, dtype=np.int64)
    crowd[random.choice(count, size=crowds, replace=False)] = 1
    sides = sides.round(2)
    rows = pd.DataFrame(np.concatenate([corner.round(2), sides], axis=1), columns=["x", "y", "w", "h"])
    # The area is that of an object's mask, a part of its box.
    area = (sides.prod(axis=1) * random.uniform(0.4, 0.9, size=count)).round(4)
    rows = rows.assign(image_id=image * 100 + 139, category_id=category + 1, iscrowd=crowd, area=area)
    names = tuple(f"class {number}" for number in range(1, classes + 1))
    return GroundTruth("generated", np.arange(images) * 100 + 139, np.arange(classes) + 1, names, rows)


def object_ease(random: np.random.Generator, truth: GroundTruth) -> np.ndarray:
    """How easily any detector finds each object, float64 [objects].

    Half of it is its image's: objects of one image are hard or easy together, and one detector's hard images are the
    other's.
    """
    image = np.searchsorted(truth.image_ids, truth.boxes["image_id"])
    return random.normal(size=len(truth.image_ids))[image] + random.normal(size=len(image))


def generated_detections(
    random: np.random.Generator, truth: GroundTruth, ease: np.ndarray, detector: Detector, detections: int = 392_000
) -> pd.DataFrame:
    """Detections as :func:`cascadebench.metrics.coco.detections.read_detections` returns them, without test stages.

    About a detection and a half per found object, the best score for the best box as a rule; the rest are false.

    Parameters
    ----------
    ease : ndarray, float64 [objects]
        Of :func:`object_ease`; the same for all detectors that are compared.
    detections : int
        Number of rows, unless there are more found objects.
    """
    rows = truth.boxes
    found = ease + 0.7 * random.normal(size=len(rows)) > -1.6 * np.log(detector.found / (1 - detector.found))
    copies = np.where(found, 1 + (random.uniform(size=len(rows)) < 0.5), 0)
    hit = rows.loc[rows.index.repeat(copies), ["image_id", "category_id", "x", "y", "w", "h"]]
    spread = detector.spread * np.exp(random.normal(0, 0.7, size=(len(hit), 1)))
    noise = random.normal(size=(len(hit), 4)) * spread
    sides = hit[["w", "h"]].to_numpy()
    corner = hit[["x", "y"]].to_numpy() + noise[:, :2] * sides
    sides = sides * np.exp(noise[:, 2:])
    score = 1 / (1 + np.exp(-(1.5 - 12 * np.abs(noise).mean(axis=1) + random.normal(0, 1, size=len(hit)))))
    found = hit.assign(score=score, x=corner[:, 0], y=corner[:, 1], w=sides[:, 0], h=sides[:, 1])
    table = pd.concat([found, _false(random, truth, max(detections - len(hit), 0))]).astype(_BY_DETECTOR)
    return table.sort_values(["image_id", "score"], ascending=[True, False], kind="stable", ignore_index=True)


def _false(random: np.random.Generator, truth: GroundTruth, count: int) -> pd.DataFrame:
    """Boxes that find nothing but by chance: every image has some, of the classes that are frequent."""
    rows = truth.boxes
    sides = np.exp(random.normal(4.0, 0.9, size=(count, 2))).clip(4, [_WIDTH, _HEIGHT])
    corner = random.uniform(size=(count, 2)) * (np.array([_WIDTH, _HEIGHT]) - sides)
    table = pd.DataFrame(np.concatenate([corner, sides], axis=1), columns=["x", "y", "w", "h"])
    return table.assign(
        image_id=truth.image_ids[random.integers(len(truth.image_ids), size=count)],
        category_id=rows["category_id"].to_numpy()[random.integers(len(rows), size=count)],
        score=random.beta(0.6, 6.0, size=count),
    )
