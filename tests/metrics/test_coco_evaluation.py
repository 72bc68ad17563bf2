"""The evaluator against pycocotools, run by hand on generated problems."""

import copy

import numpy as np
import pandas as pd
import pytest
from drawn_problems import problems
from hypothesis import HealthCheck, given, settings
from pycocotools_reference import pycocotools_evaluation

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.ap_table import METRICS, full_area, metrics, summarize
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.metrics.coco.rules import IOUS

TWELVE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def as_table(results, test_stage="(1,1)"):
    """COCO results as the rows that `evaluate` takes."""
    rows = [(r["image_id"], test_stage, r["category_id"], r["score"], *r["bbox"]) for r in results]
    return pd.DataFrame(rows, columns=["image_id", "test_stage", "category_id", "score", "x", "y", "w", "h"])


def mean_or_nan(values):
    """Mean over what is not pycocotools' -1."""
    return values[values > -1].mean() if (values > -1).any() else np.nan


def check_against_pycocotools(truth, results):
    """All twelve numbers, and AP and highest recall by category and IoU threshold."""
    untouched = copy.deepcopy(truth)
    expected = pycocotools_evaluation(truth, results)
    table = evaluate(truth, as_table(results))
    assert truth == untouched

    found = metrics(table)
    stats = np.where(expected.stats < 0, np.nan, expected.stats)
    np.testing.assert_allclose(found.loc["(1,1)", "all"][list(TWELVE)], stats, atol=1e-9, rtol=0)
    names = ["all", *(category["name"] for category in sorted(truth["categories"], key=lambda c: c["id"]))]
    assert list(found.loc["(1,1)"].index) == names
    precision, recall = expected.eval["precision"][..., 0, 2], expected.eval["recall"][..., 0, 2]
    for position, name in enumerate(names):
        rows = full_area(table[table["category"] == name])
        of_category = slice(None) if name == "all" else [position - 1]
        assert tuple(rows["iou"]) == IOUS
        ap = [mean_or_nan(precision[t, :, of_category]) for t in range(10)]
        np.testing.assert_allclose(rows["ap"], ap, atol=1e-9, rtol=0)
        top = [mean_or_nan(recall[t, of_category]) for t in range(10)]
        np.testing.assert_allclose(rows["recall"], top, atol=1e-9, rtol=0)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(problems().filter(lambda problem: problem[1]))
def test_equals_pycocotools(problem):
    check_against_pycocotools(*problem)


def test_equals_pycocotools_with_more_detections_than_count():
    random = np.random.default_rng(0)

    def box():
        return [*random.uniform(0, 30, 2).tolist(), *random.uniform(20, 60, 2).tolist()]

    truth = {
        "images": [{"id": 9}, {"id": 2}],
        "categories": [{"id": 4, "name": "c4"}, {"id": 1, "name": "c1"}],
        "annotations": [
            {"id": n + 1, "image_id": (9, 2)[n % 2], "category_id": 4, "bbox": box(), "area": 1000, "iscrowd": n // 11}
            for n in range(12)
        ],
    }
    # 125 per image and category, with three scores among them: ties decide which hundred count.
    results = [
        {"image_id": (9, 2)[n % 2], "category_id": (4, 1)[n // 250], "bbox": box(), "score": float(random.integers(3))}
        for n in range(500)
    ]
    check_against_pycocotools(truth, results)


@pytest.mark.parametrize("side", [31.9, 32, 32.1, 95.9, 96, 96.1])
def test_equals_pycocotools_at_the_ends_of_the_area_ranges(side):
    # A detection that finds nothing is ignored outside the range of areas and false inside; it comes first.
    nothing = {"image_id": 7, "category_id": 3, "bbox": [200, 200, side, side], "score": 0.9}
    truth = one_object(area=side * side, iscrowd=0)
    truth["annotations"] += [
        one_object(number, area=area, iscrowd=0, bbox=[100, 10, 40, 40])["annotations"][0]
        for number, area in enumerate((500, 5000, 50000), start=2)
    ]
    check_against_pycocotools(truth, [nothing, FOUND[0] | {"score": 0.5}])


def one_object(annotation_id=1, **more):
    """One image with one object of the first of two categories."""
    annotation = {"id": annotation_id, "image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], **more}
    categories = [{"id": 3, "name": "disc"}, {"id": 5, "name": "ring"}]
    return {"images": [{"id": 7}], "categories": categories, "annotations": [annotation]}


FOUND = [{"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "score": 0.9}]


def test_ground_truth_with_id_0_counts():
    truth = one_object(annotation_id=0, area=1600, iscrowd=0)
    assert pycocotools_evaluation(truth, FOUND).stats[0] == 0, "pycocotools was mended: say so in the documentation"
    assert summarize(evaluate(truth, as_table(FOUND)), "(1,1)")["AP"] == pytest.approx(1)


def test_area_and_iscrowd_may_be_absent():
    summary = summarize(evaluate(one_object(), as_table(FOUND)), "(1,1)")
    assert (summary["AP"], summary["APm"]) == pytest.approx((1, 1))
    assert summary["APs"] is None


def test_category_without_ground_truth_is_left_out_of_the_mean():
    summary = summarize(evaluate(one_object(), as_table(FOUND)), "(1,1)")
    assert summary["per_class"]["ring"] == dict.fromkeys(METRICS)
    assert summary["per_class"]["disc"]["AP95"] == pytest.approx(1)


def test_test_stages_are_apart_and_one_without_detections_has_ap_0():
    table = evaluate(one_object(), as_table(FOUND, "(2,1)"), ["(1,1)", "(2,1)", "(2,2)"])
    assert list(table["test_stage"].unique()) == ["(1,1)", "(2,1)", "(2,2)"]
    assert [summarize(table, label)["AP"] for label in ("(1,1)", "(2,1)", "(2,2)")] == pytest.approx([0, 1, 0])
    assert summarize(table, "(1,1)")["AR100"] == 0


def test_test_stages_that_are_not_named_follow():
    rows = pd.concat([as_table(FOUND, "b"), as_table(FOUND, "a")]).astype({"test_stage": "category"})
    assert list(evaluate(one_object(), rows, ["z"])["test_stage"].unique()) == ["z", "b", "a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 8}, r"d\.json: row 1 \(counted from 0\): image_id 8 is not in ground truth"),
        ({"category_id": 4}, r"d\.json: row 1 \(counted from 0\): category_id 4 is not in ground truth"),
        ({"score": float("nan")}, r"d\.json: row 1 \(counted from 0\): score is nan; a finite number is expected"),
    ],
)
def test_detections_that_do_not_belong_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        evaluate(one_object(), as_table([*FOUND, FOUND[0] | change]), source="d.json")


def test_nothing_to_evaluate_is_refused():
    with pytest.raises(InputError, match="no test stage is named"):
        evaluate(one_object(), as_table([]))


def test_pycocotools_prints_nothing(capsys):
    evaluate(one_object(), as_table(FOUND))
    assert capsys.readouterr().out == ""
