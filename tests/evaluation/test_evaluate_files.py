"""Evaluating any two files, and what is printed of it."""

import io
import json

import pandas as pd
import pytest
from rich.console import Console

from cascadebench.configuration import PROJECT
from cascadebench.errors import InputError
from cascadebench.evaluation.detections import write_detections
from cascadebench.evaluation.evaluate_files import evaluate_files, print_summaries

EXAMPLE = PROJECT.parent / "shared" / "data" / "cocoapi_fakebbox100"
TRUTH = {
    "images": [{"id": 1}, {"id": 2}],
    "categories": [{"id": 1, "name": "[red] disc"}, {"id": 2, "name": "ring"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50]},
        {"id": 2, "image_id": 2, "category_id": 1, "bbox": [0, 0, 50, 50]},
    ],
}
FOUND = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.5}
HALF = 51 / 101  # precision 1 up to recall 0.5


@pytest.fixture
def files(tmp_path):
    """Annotations, COCO results, and a Parquet with the same detection in two test stages."""
    truth, results, table = (tmp_path / name for name in ("val.json", "results.json", "detections.parquet"))
    truth.write_text(json.dumps(TRUTH))
    results.write_text(json.dumps([FOUND]))
    row = {"image_id": 1, "category_id": 1, "score": 0.5, "x": 0, "y": 0, "w": 50, "h": 50}
    write_detections(table, pd.DataFrame([row | {"test_stage": label} for label in ("(1,1)", "(2,1)")]))
    return truth, results, table


def printed(summaries):
    stream = io.StringIO()
    print_summaries(summaries, Console(file=stream, width=80))
    return stream.getvalue()


def test_coco_results(files):
    truth, results, _ = files
    summaries = evaluate_files(truth, results)
    assert list(summaries) == [""]
    assert summaries[""]["AP"] == pytest.approx(HALF)
    assert json.loads(json.dumps(summaries, allow_nan=False))[""]["APs"] is None
    assert "0.505" in printed(summaries)


def test_parquet_gives_the_same_for_every_test_stage(files):
    truth, results, table = files
    expected = evaluate_files(truth, results)[""]
    assert evaluate_files(truth, table) == {"(1,1)": expected, "(2,1)": expected}


def test_no_detection_is_ap_0(files):
    truth, results, _ = files
    results.write_text("[]")
    assert evaluate_files(truth, results)[""]["AP"] == 0


def test_other_files_are_refused(files):
    truth, results, _ = files
    with pytest.raises(InputError, match=r"results\.csv: detections are COCO results, \.json, or \.parquet"):
        evaluate_files(truth, results.with_suffix(".csv"))


def test_what_is_printed(files):
    truth, results, table = files
    one = [line.split() for line in printed(evaluate_files(truth, results)).splitlines()]
    assert ["AP75", "0.505"] in one and ["APs", "-"] in one
    assert ["[red]", "disc", "0.505", "0.505", "0.505", "-", "0.505", "-"] in one
    assert ["ring", "-", "-", "-", "-", "-", "-"] in one
    two = [line.split() for line in printed(evaluate_files(truth, table)).splitlines()]
    assert ["(1,1)", "(2,1)"] in two and ["AR100", "0.500", "0.500"] in two
    assert ["[red]", "disc", "0.505", "0.505"] in two


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="pycocotools' example (instances_val2014_100.json) is not there")
def test_pycocotools_example():
    results = EXAMPLE / "instances_val2014_fakebbox100_results.json"
    (summary,) = evaluate_files(EXAMPLE / "instances_val2014_100.json", results).values()
    expected = {
        "AP": 0.505, "AP50": 0.697, "AP75": 0.573, "APs": 0.586, "APm": 0.519, "APl": 0.501,
        "AR1": 0.387, "AR10": 0.594, "AR100": 0.595, "ARs": 0.640, "ARm": 0.566, "ARl": 0.564,
    }  # fmt: skip
    assert {name: round(summary[name], 3) for name in expected} == expected
