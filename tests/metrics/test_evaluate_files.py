"""Evaluating any two files, and what is printed of it."""

import io
import json

import pandas as pd
import pytest
from detection_cases import annotations, detections_of
from pycocotools_reference import TWELVE, pycocotools_evaluation
from rich.console import Console

from cascadebench.core.configuration import PROJECT
from cascadebench.core.errors import InputError
from cascadebench.datasets.masks import encoded
from cascadebench.metrics.coco.ap_table import METRICS
from cascadebench.metrics.coco.detections import write_detections
from cascadebench.metrics.coco.evaluate_files import evaluate_files, json_of, print_summaries

EXAMPLE = PROJECT.parent / "shared" / "data" / "cocoapi_fakebbox100"
TRUTH = annotations([(1, 1, 0, 0, 50, 50), (2, 1, 0, 0, 50, 50)], images=[1, 2], categories=["[red] disc", "ring"])
FOUND = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.5}
HALF = 51 / 101  # precision 1 up to recall 0.5


def write_files(folder, truth, results, table):
    """Annotations, COCO results and a Parquet of detections."""
    paths = [folder / name for name in ("val.json", "results.json", "detections.parquet")]
    paths[0].write_text(json.dumps(truth))
    paths[1].write_text(json.dumps(results))
    write_detections(paths[2], table)
    return paths


@pytest.fixture
def files(tmp_path):
    """Files in which the Parquet has the same detection in two test stages."""
    table = pd.concat([detections_of([FOUND], label) for label in ("(1,1)", "(2,1)")])
    return write_files(tmp_path, TRUTH, [FOUND], table)


def printed(summaries, width=80):
    stream = io.StringIO()
    print_summaries(summaries, Console(file=stream, width=width))
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


@pytest.mark.parametrize(("made", "kind"), [("files", "bbox"), ("segments", "segm")])
def test_no_detection_is_ap_0(request, made, kind):
    truth, results, _ = request.getfixturevalue(made)
    results.write_text("[]")
    assert evaluate_files(truth, results, kind)[""]["AP"] == 0


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
    assert ["(2,1)", *["0.505"] * 8] in two
    assert ["(2,1)", "0.505", "0.505", "0.505", "-", "0.505", "-", "0.500", "0.500"] in two
    assert ["[red]", "disc", "0.505", "0.505"] in two


TEN = [
    *(f"({i},{j})" for i in (1, 2, 3) for j in (1, 2)), "(3,1-3) probabilities", "(3,1-3) logits",
    "(3,1-3) last RoIs", "(3,3)",
]  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 10_000])
def test_ten_test_stages_are_printed_in_full(files, width):
    (summary,) = evaluate_files(*files[:2]).values()
    lines = printed(dict.fromkeys(TEN, summary), width).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    # Every metric of every test stage, and a class's AP in each, whole and once.
    words = " ".join(lines).split()
    assert all(words.count(metric) == 1 for metric in METRICS if metric != "AP")
    assert words.count("0.505") == len(TEN) * (12 + 1)  # all APs but APs and APl
    if width >= 80:
        for label in TEN:
            assert sum(line.strip().startswith(label + " ") for line in lines) == (4 if width == 80 else 1)
            assert sum(f" {label} " in line for line in lines if "AP of class" in line) == 1


def test_a_long_name_of_a_class_is_folded(files):
    (summary,) = evaluate_files(*files[:2]).values()
    name = "a" * 100
    text = printed(dict.fromkeys(TEN, summary | {"per_class": {name: summary["per_class"]["ring"]}}))
    assert "…" not in text and text.count("a" * 30) >= 1


def test_json_of_one_test_stage_is_flat_and_of_several_is_not(files):
    truth, results, table = files
    summary = evaluate_files(truth, results)[""]
    assert json_of(evaluate_files(truth, results)) == {"test_stage": None} | summary
    assert json_of(evaluate_files(truth, table)) == {"test_stages": {"(1,1)": summary, "(2,1)": summary}}
    chosen = evaluate_files(truth, table, test_stages=["(2,1)"])
    assert json_of(chosen) == {"test_stage": "(2,1)"} | summary
    write_detections(table, pd.read_parquet(table)[:0])
    assert json_of(evaluate_files(truth, table)) == json_of({"": summary | evaluate_files(truth, table)[""]})


def test_a_test_stage_that_is_not_there_is_refused(files):
    truth, results, table = files
    with pytest.raises(InputError, match=r"parquet: --test-stage: '\(3,3\)' is not .* there are: \(1,1\), \(2,1\)"):
        evaluate_files(truth, table, test_stages=["(2,1)", "(3,3)"])
    with pytest.raises(InputError, match=r"json: --test-stage: '\(3,3\)' is not in this file; there are: none"):
        evaluate_files(truth, results, test_stages=["(3,3)"])


def test_a_name_that_no_file_can_hold_is_refused(files):
    truth, results, _ = files
    truth.write_text(json.dumps(TRUTH).replace("ring", "\\ud800"))
    with pytest.raises(InputError, match=r'val.json: categories\[1\].name: "\\ud800" holds a half of a surrogate'):
        evaluate_files(truth, results)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("fakebbox100", "bbox", [0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564]),
        ("fakesegm100", "segm", [0.320, 0.562, 0.299, 0.387, 0.310, 0.327, 0.268, 0.415, 0.417, 0.469, 0.377, 0.381]),
    ],
)
def test_pycocotools_example(name, kind, expected):
    truth, results = (EXAMPLE / f"instances_val2014_{one}.json" for one in ("100", f"{name}_results"))
    if not results.is_file():
        pytest.skip(f"pycocotools' example {results.name} is not there")
    (summary,) = evaluate_files(truth, results, kind).values()
    assert [round(summary[metric], 3) for metric in TWELVE] == expected


SEGMENTS = {
    "images": [{"id": 1, "width": 100, "height": 80}, {"id": 2, "width": 60, "height": 60}],
    "categories": TRUTH["categories"],
    "annotations": [
        TRUTH["annotations"][0] | {"segmentation": [[0, 0, 50, 0, 50, 50, 0, 50]]},
        TRUTH["annotations"][1] | {"segmentation": {"size": [60, 60], "counts": [0, 1800, 1800]}},
    ],
}
SQUARE = encoded([[0, 0, 50, 0, 50, 50, 0, 50]], 100, 80)


@pytest.fixture
def segments(tmp_path):
    """Files with masks; in the Parquet the second test stage has some."""
    found = {key: FOUND[key] for key in ("image_id", "category_id", "score")} | {"segmentation": SQUARE}
    small = FOUND | {"bbox": [0, 0, 1, 1]}
    stages = {"(1,1)": None, "(2,1)": SQUARE["counts"]}
    table = pd.concat([detections_of([small], label).assign(segmentation=mask) for label, mask in stages.items()])
    return write_files(tmp_path, SEGMENTS, [found], table)


def test_masks_of_results_and_of_the_test_stages_that_have_them(segments):
    truth, results, table = segments
    expected = evaluate_files(truth, results, "segm")[""]
    assert expected["AP"] == pytest.approx(HALF)
    assert evaluate_files(truth, table, "segm") == {"(2,1)": expected}
    assert {label: summary["AP"] for label, summary in evaluate_files(truth, table).items()} == {"(1,1)": 0, "(2,1)": 0}


def test_the_area_of_a_detection_with_mask_and_box_is_that_of_the_mask(segments):
    """Otherwise than in pycocotools, which then takes the box's: a miss of small mask and medium box comes first."""
    truth, results, _ = segments
    small, missed = ([[x, y, x + 20, y, x + 20, y + 20, x, y + 20]] for x, y in ((0, 0), (60, 50)))
    annotation = SEGMENTS["annotations"][0] | {"segmentation": small, "area": 400, "iscrowd": 0}
    content = SEGMENTS | {"annotations": [annotation]}
    found = [
        FOUND | {"score": score, "segmentation": encoded(mask, 100, 80), "bbox": [0, 0, side, side]}
        for score, mask, side in ((0.9, missed, 40), (0.5, small, 20))
    ]
    truth.write_text(json.dumps(content))
    results.write_text(json.dumps(found))
    assert evaluate_files(truth, results, "segm")[""]["APs"] == pytest.approx(0.5)
    without_boxes = [{key: one[key] for key in one if key != "bbox"} for one in found]
    assert pycocotools_evaluation(content, without_boxes, "segm").stats[3] == pytest.approx(0.5)
    assert pycocotools_evaluation(content, found, "segm").stats[3] > 0.9, "pycocotools was changed: document it"


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ({"size": [100, 80], "counts": SQUARE["counts"]}, r"run lengths of size \[100, 80\]; .* is \[80, 100\]"),
        ({"size": [80, 100], "counts": "04"}, "the runs are 4 pixels long; the image has 8000"),
    ],
)
def test_masks_that_do_not_fit_are_refused(segments, mask, expected):
    truth, results, _ = segments
    results.write_text(json.dumps([FOUND | {"segmentation": mask}]))
    with pytest.raises(InputError, match=rf"results\.json: row 0 \(counted from 0\): segmentation: .*{expected}"):
        evaluate_files(truth, results, "segm")


def test_masks_that_are_not_there_are_refused(segments, files):
    truth, _, table = files  # without masks
    with pytest.raises(InputError, match=r"detections\.parquet: no test stage has masks; --iou-type bbox evaluates"):
        evaluate_files(truth, table, "segm")
    for annotation in (content := json.loads(json.dumps(SEGMENTS)))["annotations"][1:]:
        del annotation["segmentation"]
    truth.write_text(json.dumps(content))
    results = truth.with_name("results.json")
    results.write_text(json.dumps([FOUND | {"segmentation": SQUARE}]))
    with pytest.raises(InputError, match=r"val\.json: annotations\[1\]\.segmentation: missing"):
        evaluate_files(truth, results, "segm")


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="pycocotools' example (instances_val2014_100.json) is not there")
def test_masks_of_real_annotations_agree_with_pycocotools(tmp_path):
    """Its example's boxes, filled, as masks."""
    truth = json.loads((EXAMPLE / "instances_val2014_100.json").read_text())
    size_of = {one["id"]: (one["width"], one["height"]) for one in truth["images"]}
    found = []
    for one in json.loads((EXAMPLE / "instances_val2014_fakebbox100_results.json").read_text()):
        (x, y, w, h), size = one.pop("bbox"), size_of[one["image_id"]]
        found.append(one | {"segmentation": encoded([[x, y, x + w, y, x + w, y + h, x, y + h]], *size)})
    results = tmp_path / "results.json"
    results.write_text(json.dumps(found))
    summary = evaluate_files(EXAMPLE / "instances_val2014_100.json", results, "segm")[""]
    expected = pycocotools_evaluation(truth, found, "segm").stats
    assert [summary[name] for name in TWELVE] == pytest.approx(expected.tolist(), abs=1e-12)
    assert 0.1 < summary["AP"] < 0.4
