"""Documentation: two shortcuts of public evaluators, and what each of them costs, by the packages themselves."""

import json

import hotcoco
import numpy as np
import pytest
import torch
from detection_cases import annotations, detections_of
from pycocotools_reference import pycocotools_evaluation
from torchmetrics.detection import MeanAveragePrecision

from cascadebench.metrics.coco.accumulation import accumulate
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import ground_truth_table
from cascadebench.metrics.coco.rules import RECALLS
from cascadebench.metrics.coco.stage_matches import match_stages
from cascadebench.uncertainty.bootstrap import image_weights
from cascadebench.uncertainty.weighted_ap import weighted_ap, weighting_plan

pytestmark = pytest.mark.documentation


def made(images: int, share: float, seed: int = 7) -> tuple[dict, list[dict]]:
    """One object and two detections an image: a good one on a share of the images, and a false one."""
    random, results = np.random.default_rng(seed), []
    for image in range(images):
        x = 10 if random.random() < share else 200
        for place, score in ((x, random.random()), (300, random.random() * 0.8)):
            results.append({"image_id": image, "category_id": 1, "score": score, "bbox": [place, 10, 40, 40]})
    truth = annotations([(image, 1, 10, 10, 40, 40) for image in range(images)], images, 1, width=400, height=100)
    return truth, results


def matched(images: int, share: float):
    """Ground truth and matches of the made detections."""
    truth, results = made(images, share)
    table = ground_truth_table(read_ground_truth(truth))
    return table, dict(match_stages(table, detections_of(results, "")))[""]


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


def reference_ap(truth: dict, results: list[dict], recalls: np.ndarray) -> float:
    """AP by pycocotools at these recall thresholds."""
    return pycocotools_evaluation(truth, results, recalls=recalls).eval["precision"][:, :, 0, 0, -1].mean()


def test_hotcoco_intervals_of_a_difference_are_too_narrow(tmp_path):
    """The package itself, beside the paired resampling of this project, on the same two detectors."""
    truth, weaker = made(400, 0.6, seed=7)
    _, stronger = made(400, 0.65, seed=8)
    table = ground_truth_table(read_ground_truth(truth))
    weights = image_weights(400, 1000, 0)
    draws = []
    evaluations = []
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for name, results in (("weaker", weaker), ("stronger", stronger)):
        matches = dict(match_stages(table, detections_of(results, "")))[""]
        draws.append(weighted_ap(weighting_plan(table, matches), weights)[:, 0].mean(axis=-1))
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
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
    truth, results = made(100, 0.9)
    table, detections = ground_truth_table(read_ground_truth(truth)), detections_of(results, "")
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
    assert reference_ap(truth, results, RECALLS) == ours
    single = torch.linspace(0, 1, 101).double().numpy()
    assert reference_ap(truth, results, single) == pytest.approx(theirs, abs=1e-6)
    assert abs(theirs - ours) > 1e-3
