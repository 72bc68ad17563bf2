"""The evaluator where annotations say little or detections do not belong; other problems are in test_kernel.py."""

import numpy as np
import pandas as pd
import pytest
from detection_cases import annotations, detections_of
from pycocotools_reference import check_table, pycocotools_evaluation

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.ap_table import METRICS, summarize
from cascadebench.metrics.coco.evaluate import evaluate


def test_equals_pycocotools_with_more_detections_than_count():
    random = np.random.default_rng(0)

    def box():
        return [*random.uniform(0, 30, 2).tolist(), *random.uniform(20, 60, 2).tolist()]

    truth = annotations([((9, 2)[n % 2], 2, *box(), n // 11) for n in range(12)], images=[9, 2], categories=2)
    # 125 per image and category, with three scores among them: ties decide which hundred count.
    results = [
        {"image_id": (9, 2)[n % 2], "category_id": (2, 1)[n // 250], "bbox": box(), "score": float(random.integers(3))}
        for n in range(500)
    ]
    check_table(evaluate(truth, detections_of(results)), pycocotools_evaluation(truth, results))


def one_object(annotation_id=1, **more):
    """One image with one object of the first of two categories."""
    annotation = {"id": annotation_id, "image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], **more}
    categories = [{"id": 3, "name": "disc"}, {"id": 5, "name": "ring"}]
    return {"images": [{"id": 7}], "categories": categories, "annotations": [annotation]}


FOUND = [{"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "score": 0.9}]


def test_ground_truth_with_id_0_counts():
    truth = one_object(annotation_id=0, area=1600, iscrowd=0)
    assert pycocotools_evaluation(truth, FOUND).stats[0] == 0, "pycocotools was mended: say so in the documentation"
    assert summarize(evaluate(truth, detections_of(FOUND)), "(1,1)")["AP"] == pytest.approx(1)


def test_area_and_iscrowd_may_be_absent():
    summary = summarize(evaluate(one_object(), detections_of(FOUND)), "(1,1)")
    assert (summary["AP"], summary["APm"]) == pytest.approx((1, 1))
    assert summary["APs"] is None


def test_category_without_ground_truth_is_left_out_of_the_mean():
    summary = summarize(evaluate(one_object(), detections_of(FOUND)), "(1,1)")
    assert summary["per_class"]["ring"] == dict.fromkeys(METRICS)
    assert summary["per_class"]["disc"]["AP95"] == pytest.approx(1)


def test_test_stages_are_apart_and_one_without_detections_has_ap_0():
    table = evaluate(one_object(), detections_of(FOUND, "(2,1)"), ["(1,1)", "(2,1)", "(2,2)"])
    assert list(table["test_stage"].unique()) == ["(1,1)", "(2,1)", "(2,2)"]
    assert [summarize(table, label)["AP"] for label in ("(1,1)", "(2,1)", "(2,2)")] == pytest.approx([0, 1, 0])
    assert summarize(table, "(1,1)")["AR100"] == 0


def test_test_stages_that_are_not_named_follow():
    rows = pd.concat([detections_of(FOUND, "b"), detections_of(FOUND, "a")]).astype({"test_stage": "category"})
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
        evaluate(one_object(), detections_of([*FOUND, FOUND[0] | change]), source="d.json")


def test_nothing_to_evaluate_is_refused():
    with pytest.raises(InputError, match="no test stage is named"):
        evaluate(one_object(), detections_of([]))


def test_pycocotools_prints_nothing(capsys):
    evaluate(one_object(), detections_of(FOUND))
    assert capsys.readouterr().out == ""
