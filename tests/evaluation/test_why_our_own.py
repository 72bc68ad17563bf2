"""Documentation: two shortcuts of public evaluators, done again here, and what each of them costs.

None of the packages is needed: each test takes the step by which a package departs from COCO's rules and compares.
"""

import numpy as np
import pandas as pd
import pytest

from cascadebench.evaluation.accumulation import accumulate
from cascadebench.evaluation.bootstrap import image_weights
from cascadebench.evaluation.coco_rules import RECALLS
from cascadebench.evaluation.ground_truth import read_ground_truth
from cascadebench.evaluation.ground_truth_table import ground_truth_table
from cascadebench.evaluation.stage_matches import match_stages
from cascadebench.evaluation.weighted_ap import weighted_ap, weighting_plan

pytestmark = pytest.mark.documentation


def matched(images: int, share: float):
    """One object and two detections an image: a good one on a share of the images, and a false one."""
    random = np.random.default_rng(7)
    truth = {
        "images": [{"id": n} for n in range(images)],
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
    table = ground_truth_table(read_ground_truth(truth))
    return table, match_stages(table, pd.DataFrame(rows, columns=names))[""]


def test_recall_thresholds_in_single_precision_lower_the_ap():
    """As torchmetrics has them: a threshold rounded up misses the recall that it should meet."""
    images = 100  # recalls are multiples of 0.01, so every threshold is met exactly
    table, matches = matched(images, 0.9)
    accumulated = accumulate(table, matches)
    precision = accumulated.precision[0, :, 0, 0, -1]
    highest = accumulated.recall[0, 0, 0, -1]
    assert accumulated.ap[0, 0, 0, -1] == pytest.approx(precision.mean())
    rounded = RECALLS.astype(np.float32).astype(np.float64)
    # Where the rounded threshold lies above the recall k / 100, the precision of the next recall is read.
    recalls = np.arange(1, images + 1) / images
    read = [int(np.searchsorted(recalls, threshold, side="left")) for threshold in RECALLS]
    read_rounded = [int(np.searchsorted(recalls, threshold, side="left")) for threshold in rounded]
    assert any(one != other for one, other in zip(read, read_rounded, strict=True))
    shifted = np.array([precision[min(place + 1, 100)] if recalls[min(place, images - 1)] <= highest else 0.0
                        for place in read_rounded])  # fmt: skip
    exact = np.array([precision[min(place + 1, 100)] if recalls[min(place, images - 1)] <= highest else 0.0
                      for place in read])  # fmt: skip
    assert shifted.mean() < exact.mean()
    assert exact.mean() - shifted.mean() < 0.02


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
