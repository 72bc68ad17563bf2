"""Scores of boxes whose IoU is known."""

import numpy as np
import pytest
from detection_cases import annotations, detections

from cascadebench.diagnostics.score_quality import best_ious, score_quality
from cascadebench.metrics.coco.ground_truth import read_ground_truth

# IoU of a box of this height is height / 100; the crowd lies at the right.
TRUTH = read_ground_truth(annotations([(0, 1, 0, 0, 100, 100), (0, 1, 300, 0, 100, 100, True)], images=2))


def found(*pairs, category=1, image=0, x=0):
    return detections([(image, category, score, x, 0, 100, height) for height, score in pairs])


def test_best_iou_is_with_the_own_class_and_image():
    assert best_ious(TRUTH, found((60, 0.5), (100, 0.5))) == pytest.approx([0.6, 1])
    for other in ({"category": 2}, {"image": 1}, {"x": 300}):
        assert best_ious(TRUTH, found((100, 0.5), **other)).tolist() == [0]


def test_scores_in_the_range():
    # In the range: 50, 60, 70, 75; scores fall as the IoU rises, but for the last two.
    table = score_quality(TRUTH, found((40, 1.0), (50, 0.9), (60, 0.6), (70, 0.2), (75, 0.4), (90, 0.99), (100, 0.0)))
    row = table.iloc[0]
    assert (row["count"], row["confident"], row["count_from_50"]) == (4, 2, 6)
    assert row["mean_score"] == pytest.approx((0.9 + 0.6 + 0.2 + 0.4) / 4)
    assert row["spearman"] == pytest.approx(-0.8)  # ranks 4 3 1 2 against 1 2 3 4: 1 - 6 * 18 / (4 * 15)
    histogram = np.zeros(20, dtype=int)
    histogram[[18, 12, 4, 8]] = 1
    assert row["score_histogram"].tolist() == histogram.tolist()


def test_correlation_is_unknown_where_nothing_varies():
    row = score_quality(TRUTH, found((50, 0.5), (60, 0.5), (70, 0.5))).iloc[0]
    assert (row["count"], row["confident"]) == (3, 0)
    assert np.isnan(row["spearman"])
    nothing = score_quality(TRUTH, found((10, 0.5))).iloc[0]
    assert nothing["count"] == 0
    assert np.isnan(nothing["mean_score"])


def test_a_score_of_one_has_a_bin():
    assert score_quality(TRUTH, found((60, 1.0))).iloc[0]["score_histogram"][-1] == 1
