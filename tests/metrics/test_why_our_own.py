"""Documentation: two shortcuts of public evaluators, and what each of them costs, by the packages themselves."""

import contextlib
import io
import json

import hotcoco
import numpy as np
import pandas as pd
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision

from cascadebench.metrics.coco.accumulation import accumulate
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import ground_truth_table
from cascadebench.metrics.coco.rules import RECALLS
from cascadebench.metrics.coco.stage_matches import match_stages
from cascadebench.uncertainty.bootstrap import image_weights
from cascadebench.uncertainty.weighted_ap import weighted_ap, weighting_plan

pytestmark = pytest.mark.documentation


def made(images: int, share: float, seed: int = 7) -> tuple[dict, pd.DataFrame]:
    """One object and two detections an image: a good one on a share of the images, and a false one."""
    random = np.random.default_rng(seed)
    truth = {
        "images": [{"id": n, "width": 400, "height": 100} for n in range(images)],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": n + 1, "image_id": n, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
            for n in range(images)
        ],
    }
    rows = []
    for image in range(images):
        x = 10 if random.random() < share else 200
        rows += [(image, "", 1, random.random(), x, 10, 40, 40), (image, "", 1, random.random() * 0.8, 300, 10, 40, 40)]
    names = ["image_id", "test_stage", "category_id", "score", "x", "y", "w", "h"]
    return truth, pd.DataFrame(rows, columns=names)


def matched(images: int, share: float):
    """Ground truth and matches of the made detections."""
    truth, detections = made(images, share)
    table = ground_truth_table(read_ground_truth(truth))
    return table, dict(match_stages(table, detections))[""]


def test_resamples_without_multiplicities_make_intervals_too_narrow():
    """As hotcoco's comparison draws them: an image that is drawn three times counts once."""
    images = 400
    table, matches = matched(images, 0.6)
    weights = image_weights(images, 300, 0)
    plan = weighting_plan(table, matches)
    right, wrong = (weighted_ap(plan, drawn)[:, 0, 0] for drawn in (weights, np.minimum(weights, 1)))
    ratio = wrong.std(ddof=1) / right.std(ddof=1)
    # A share of 1 - 1/e of the images is drawn: as without replacement, the error shrinks to about 0.76 of itself.
    assert 0.6 < ratio < 0.9


def coco_results(detections: pd.DataFrame) -> list[dict]:
    """Detections as a results file has them."""
    return [
        {"image_id": row.image_id, "category_id": 1, "score": row.score, "bbox": [row.x, row.y, row.w, row.h]}
        for row in detections.itertuples()
    ]


def reference_ap(truth: dict, detections: pd.DataFrame, recalls: np.ndarray) -> float:
    """AP by pycocotools at these recall thresholds."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = truth
        ground_truth.createIndex()
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(coco_results(detections)), "bbox")
        evaluation.params.recThrs = recalls
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, 0, 0, -1].mean()


def test_hotcoco_intervals_of_a_difference_are_too_narrow(tmp_path):
    """The package itself, beside the paired resampling of this project, on the same two detectors."""
    truth, weaker = made(400, 0.6, seed=7)
    _, stronger = made(400, 0.65, seed=8)
    table = ground_truth_table(read_ground_truth(truth))
    weights = image_weights(400, 1000, 0)
    draws = []
    evaluations = []
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for name, detections in (("weaker", weaker), ("stronger", stronger)):
        matches = dict(match_stages(table, detections))[""]
        draws.append(weighted_ap(weighting_plan(table, matches), weights)[:, 0].mean(axis=-1))
        (tmp_path / f"{name}.json").write_text(json.dumps(coco_results(detections)))
        ground_truth = hotcoco.COCO(str(tmp_path / "truth.json"))
        evaluation = hotcoco.COCOeval(ground_truth, ground_truth.load_res(str(tmp_path / f"{name}.json")), "bbox")
        evaluation.evaluate()
        evaluations.append(evaluation)
    low, high = np.percentile(draws[1] - draws[0], [2.5, 97.5])
    theirs = hotcoco.compare(*evaluations, n_bootstrap=1000, seed=0)["ci"]["AP"]
    ratio = (theirs["upper"] - theirs["lower"]) / (high - low)
    assert 0.6 < ratio < 0.9


def test_torchmetrics_reads_precision_at_other_recalls():
    """Its recall thresholds are in single precision: where a recall meets one exactly, the next may be read instead.

    How far that moves an AP, and to which side, depends on the number of objects; here every recall is a multiple of
    0.01. The package itself, and pycocotools with these thresholds.
    """
    truth, detections = made(100, 0.9)
    table = ground_truth_table(read_ground_truth(truth))
    ours = accumulate(table, dict(match_stages(table, detections))[""]).ap[0, :, 0, -1].mean()
    metric = MeanAveragePrecision(box_format="xywh", backend="pycocotools")
    for _, of_image in detections.groupby("image_id"):
        predicted = {
            "boxes": torch.tensor(of_image[["x", "y", "w", "h"]].to_numpy()),
            "scores": torch.tensor(of_image.score.to_numpy()),
            "labels": torch.ones(2, dtype=torch.long),
        }
        metric.update(
            [predicted], [{"boxes": torch.tensor([[10.0, 10, 40, 40]]), "labels": torch.ones(1, dtype=torch.long)}]
        )
    theirs = float(metric.compute()["map"])
    assert reference_ap(truth, detections, RECALLS) == ours
    single = torch.linspace(0, 1, 101).double().numpy()
    assert reference_ap(truth, detections, single) == pytest.approx(theirs, abs=1e-6)
    assert abs(theirs - ours) > 1e-3
