"""Kinds of mistakes: one of each by hand, AP against the evaluation, all against the TIDE authors' package; scores."""

import numpy as np
import pytest
from detection_cases import annotations, detections, random_case

from cascadebench.diagnostics import error_kinds as module
from cascadebench.diagnostics.error_kinds import KINDS, error_kinds
from cascadebench.diagnostics.score_quality import best_ious, score_quality
from cascadebench.metrics.coco.ap_table import summarize
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.metrics.coco.ground_truth import read_ground_truth

# tidecv 1.0.1 on the random cases: AP and, by kind, count and cost, in percent (tidecv_figures.py).
TIDECV = {
    0: (49.5596, {"classification": (3, 4.7074), "localization": (8, 0.8554), "both": (7, 4.3993),
                  "duplicate": (24, 5.6407), "background": (13, 7.8359), "missed": (5, 8.2986)}),
    1: (22.1722, {"classification": (15, 16.5336), "localization": (17, 16.2079), "both": (6, 0.5805),
                  "duplicate": (16, 1.5047), "background": (17, 2.0063), "missed": (7, 5.2076)}),
    2: (23.995, {"classification": (17, 11.1175), "localization": (18, 14.355), "both": (9, 1.9421),
                 "duplicate": (20, 2.8294), "background": (14, 1.2162), "missed": (10, 6.101)}),
    3: (39.0486, {"classification": (10, 3.9038), "localization": (17, 12.4344), "both": (4, 2.7675),
                  "duplicate": (22, 3.9192), "background": (18, 1.7374), "missed": (8, 9.5308)}),
}  # fmt: skip


def kinds_of(content, found):
    """AP50, and count and cost by kind, in percent."""
    table = error_kinds(read_ground_truth(content), found).set_index("kind")
    assert table.index.tolist() == list(KINDS)
    assert table["ap50"].nunique(dropna=False) == 1
    return 100 * table["ap50"].iloc[0], {kind: (int(row["count"]), 100 * row["cost"]) for kind, row in table.iterrows()}


@pytest.mark.parametrize("seed", TIDECV)
def test_kinds_and_costs_are_those_of_tidecv(seed, monkeypatch):
    monkeypatch.setattr(module, "RECALLS", np.arange(101) / 100)  # as tidecv has them
    ap, kinds = kinds_of(*random_case(seed))
    expected_ap, expected = TIDECV[seed]
    assert ap == pytest.approx(expected_ap, abs=1e-4)
    assert {kind: count for kind, (count, _) in kinds.items()} == {kind: count for kind, (count, _) in expected.items()}
    for kind, (_, cost) in kinds.items():
        assert max(cost, 0) == pytest.approx(expected[kind][1], abs=1e-4), kind


@pytest.mark.parametrize("seed", range(4))
def test_ap_is_that_of_the_evaluation(seed):
    content, found = random_case(seed, crowd=0.3)
    ap50 = summarize(evaluate(content, found), "(1,1)")["AP50"]
    assert kinds_of(content, found)[0] == pytest.approx(100 * ap50, abs=1e-10)


SQUARE = (0, 0, 100, 100)


def box(height, x=0):
    """A box whose IoU with the square at `x` is `height` percent."""
    return (x, 0, 100, height)


def test_one_of_each_kind():
    truth = annotations([(0, 1, *SQUARE), (0, 2, 500, 0, 100, 100), (1, 1, *SQUARE), (2, 2, *SQUARE)], images=4)
    found = detections(
        [
            (0, 1, 0.9, *box(90)),  # true
            (0, 1, 0.8, *box(95)),  # duplicate
            (0, 1, 0.7, *box(80, 500)),  # classification: the object is of class 2
            (0, 2, 0.6, *box(40)),  # both: loose on an object of class 1
            (1, 1, 0.5, *box(40)),  # localization
            (3, 1, 0.4, *box(50)),  # background: no object in the image
            (0, 3, 0.3, *box(5)),  # background: IoU 0.05
        ]
    )
    _, kinds = kinds_of(truth, found)
    assert {kind: count for kind, (count, _) in kinds.items()} == {
        "classification": 1, "localization": 1, "both": 1, "duplicate": 1, "background": 2, "missed": 1,
    }  # fmt: skip


def test_costs_by_hand():
    # Two objects of one class; a localization mistake stands before the only true positive.
    truth = annotations([(0, 1, *SQUARE), (1, 1, *SQUARE)], images=2, categories=1)
    found = detections([(0, 1, 0.9, *box(40)), (1, 1, 0.8, *box(90)), (1, 1, 0.7, *box(90))])
    ap, kinds = kinds_of(truth, found)
    # One of two is found, at precision 1/2: 51 of 101 recalls.
    assert ap == pytest.approx(100 * 51 / 101 / 2)
    assert kinds["localization"] == (1, pytest.approx(100 - ap))
    assert kinds["duplicate"] == (1, pytest.approx(0))  # it stands after the last true positive
    assert kinds["missed"] == (0, pytest.approx(0))  # mending the localization finds the other object
    alone = kinds_of(truth, found.iloc[1:])
    assert alone[1]["missed"] == (1, pytest.approx(100 - 100 * 51 / 101))


def test_only_the_best_mistake_about_an_object_is_mended():
    truth = annotations([(0, 1, *SQUARE), (0, 2, 500, 0, 100, 100)], images=1, categories=2)
    right = (0, 2, 0.1, 500, 0, 100, 100)
    better_located = detections([(0, 1, 0.9, *box(40)), (0, 2, 0.8, *box(90)), right])
    ap, kinds = kinds_of(truth, better_located)
    assert ap == pytest.approx(25)  # class 1: 0, class 2: precision 1/2
    assert kinds["localization"] == (1, pytest.approx(50))
    assert kinds["classification"] == (1, pytest.approx(25))  # it vanishes and finds nothing
    better_named = better_located.assign(score=[0.7, 0.8, 0.1])
    ap, kinds = kinds_of(truth, better_named)
    assert kinds["classification"] == (1, pytest.approx(100 * (0.5 + 0.5) - ap))
    assert kinds["localization"] == (1, pytest.approx(0))


def test_crowd_is_no_mistake():
    truth = annotations([(0, 1, *SQUARE), (0, 1, 300, 0, 100, 100, True)], images=1, categories=1)
    found = detections([(0, 1, 0.9, 310, 10, 20, 20), (0, 1, 0.8, *SQUARE), (0, 1, 0.7, 360, 0, 81, 100)])
    ap, kinds = kinds_of(truth, found)
    assert ap == pytest.approx(100)
    assert {kind: count for kind, (count, _) in kinds.items() if count} == {"background": 1}  # 40 of 81 in the crowd


def test_test_stages_are_judged_apart_and_none_gives_none():
    content, found = random_case(0)
    truth = read_ground_truth(content)
    both = error_kinds(truth, detections([], "x"))
    assert len(both) == 0
    found["test_stage"] = ["(1,1)", "(2,2)"] * (len(found) // 2) + ["(1,1)"] * (len(found) % 2)
    whole = error_kinds(truth, found).set_index("test_stage")
    for label in ("(1,1)", "(2,2)"):
        alone = error_kinds(truth, found[found["test_stage"] == label])
        assert whole.loc[label, "count"].tolist() == alone["count"].tolist()


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
