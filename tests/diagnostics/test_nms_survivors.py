"""NMS of a handful of boxes."""

import numpy as np
import pytest

from cascadebench.diagnostics.nms_survivors import NMS_IOUS, NmsSurvivors, suppress, survivors
from cascadebench.diagnostics.observations import Candidates, GroundTruthBoxes


def column(*heights):
    """Boxes of one corner and width: the IoU of two is the ratio of their heights."""
    return np.array([[0, 0, 100, height] for height in heights], dtype=np.float32)


TRUTH = GroundTruthBoxes(column(100).astype(float), np.zeros(1, int), np.zeros(1, bool), np.full(1, 1e4))


def plain_nms(boxes, scores, limit):
    """The definition, one box at a time."""
    kept = []
    for place in np.argsort(-scores, kind="stable"):
        x1, y1, x2, y2 = boxes[place].astype(float)
        for other in kept:
            a1, b1, a2, b2 = boxes[other].astype(float)
            inter = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
            if inter / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - inter) > limit:
                break
        else:
            kept.append(place)
    return sorted(kept)


def test_a_suppressed_box_suppresses_nothing():
    # 80 falls to 100 below 0.8, and so spares 64; at 0.8 itself nothing is above.
    alive = suppress(column(100, 80, 64), (0.5, 0.75, 0.8))
    assert alive.tolist() == [[True, False, False], [True, False, True], [True, True, True]]


@pytest.mark.parametrize("seed", range(3))
def test_nms_is_exact_in_every_level(seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (120, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (120, 2))], axis=1).astype(np.float32)
    scores, levels = rng.integers(0, 60, 120).astype(np.float32), rng.integers(2, 5, 120)
    alive = survivors(Candidates(boxes, scores, levels))
    for row, limit in zip(alive, NMS_IOUS, strict=True):
        for level in (2, 3, 4):
            places = np.flatnonzero(levels == level)
            assert np.flatnonzero(row[places]).tolist() == plain_nms(boxes[places], scores[places], limit)
    assert 3 < alive[0].sum() < alive[-1].sum()


def test_counts_of_an_image():
    counted = NmsSurvivors()
    far = np.array([[500, 500, 600, 600]], dtype=np.float32)
    boxes = np.concatenate([column(100, 80, 40), far, column(100)])
    counted.add(Candidates(boxes, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([0, 0, 0, 0, 1])), TRUTH)
    assert counted.images == 1
    table = counted.table().set_index("nms_iou")
    assert table["images"].tolist() == [1] * 8
    assert table["candidates"].tolist() == [5] * 8
    # At 0.5: 100, 40, far, and the box of the other level, which NMS does not see.
    assert table.loc[0.5, ["survivors", "top", "top_positives"]].tolist() == [4, 4, 2]
    assert table.loc[0.5, "overlap_sum"] == pytest.approx(1 + 1 + 0.4 + 0)
    assert table.loc[0.85, ["survivors", "top", "top_positives"]].tolist() == [5, 5, 3]
    assert table.loc[0.85, "overlap_sum"] == pytest.approx(1 + 1 + 0.8 + 0.5 + 0)


def test_only_the_best_thousand_count_as_proposals():
    places = np.arange(1200)
    apart = np.stack([places * 10, 0 * places, places * 10 + 9, 0 * places + 9], axis=1).astype(np.float32)
    boxes = np.concatenate([apart, column(100)])
    counted = NmsSurvivors()
    counted.add(Candidates(boxes, np.linspace(1, 0, 1201), np.zeros(1201, int)), TRUTH)
    row = counted.table().iloc[0]
    assert (row["survivors"], row["top"], row["top_positives"]) == (1201, 1000, 0)
