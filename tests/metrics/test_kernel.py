"""The kernel against pycocotools, to the last bit, on problems that sit on the edges of COCO's rules."""

import copy
import json
import tracemalloc
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from detection_cases import annotations, detections_of
from drawn_problems import KINDS, drawn, kinds_of, problems
from hypothesis import HealthCheck, given, settings
from pycocotools import mask as run_lengths
from pycocotools_reference import check_equal, check_table, pycocotools_evaluation

from cascadebench.core.configuration import PROJECT
from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.accumulation import accumulate
from cascadebench.metrics.coco.detection_order import ordered_detections
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import ground_truth_table
from cascadebench.metrics.coco.matching import match, match_boxes
from cascadebench.metrics.coco.rules import AREA_ENDS, AREAS, IOU_THRESHOLDS, MAX_DETS, RECALLS
from cascadebench.metrics.coco.stage_matches import match_stages

EXAMPLE = PROJECT.parent / "shared" / "data" / "cocoapi_fakebbox100"
PROBLEMS = 500
needs_example = pytest.mark.skipif(not EXAMPLE.is_dir(), reason=f"pycocotools' example is not there: {EXAMPLE}")


def column(results, key, kind=None):
    return np.array([result[key] for result in results], dtype=kind)


def matched(truth, results, limit=MAX_DETS[-1]):
    """Table of the ground truth, and matches."""
    table = ground_truth_table(read_ground_truth(truth))
    category = table.category_index(column(results, "category_id", int))
    image = table.image_index(column(results, "image_id", int))
    score, box = column(results, "score", float), column(results, "bbox", float)
    return table, match(table, ordered_detections(table.classes, category, image, score, box), limit=limit)


def kernel(truth, results, max_dets=MAX_DETS):
    """The kernel's accumulation."""
    return accumulate(*matched(truth, results, max_dets[-1]), max_dets)


def test_constants():
    parameters = pycocotools_evaluation(*drawn(1)[0]).params
    np.testing.assert_array_equal(IOU_THRESHOLDS, parameters.iouThrs)
    np.testing.assert_array_equal(RECALLS, parameters.recThrs)
    np.testing.assert_array_equal(AREA_ENDS, parameters.areaRng)
    assert (tuple(parameters.areaRngLbl), tuple(parameters.maxDets)) == (AREAS, MAX_DETS)


def test_equals_pycocotools_to_the_bit():
    """And what that is worth: how many of the problems hold what it is about."""
    seen = Counter()

    # The same problems at every run; a busy machine is no failure.
    @settings(max_examples=PROBLEMS, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(problems())
    def compare(problem):
        check_equal(kernel(*problem), pycocotools_evaluation(*problem))
        seen.update(["problems", *kinds_of(*problem)])

    compare()
    assert seen["problems"] >= PROBLEMS
    assert min(seen[kind] for kind in KINDS) >= 20, seen


def test_the_fixed_problems_are_adversarial():
    """Those of the comparisons below."""
    seen = Counter(kind for problem in drawn(200) for kind in kinds_of(*problem))
    assert min(seen[kind] for kind in KINDS) >= 15, seen


def test_other_limits_of_detections():
    limits = (100, 300, 1000)
    for truth, results in drawn(200):
        # More than 100 on an image, so that the limits differ; each time worse, so that the first decide as before.
        results = [result | {"score": result["score"] - time} for time in range(9) for result in results]
        check_equal(kernel(truth, results, limits), pycocotools_evaluation(truth, results, max_dets=limits))


def with_masks(truth, results):
    """The same problem with polygons, uncompressed and compressed encodings in place of boxes."""

    def polygon(box):
        x, y, w, h = box
        return [[x, y, x + w, y, x + w / 2, y + h], [x, y + h, x + w, y + h, x + w / 2, y + h / 3]]

    def encoding(box):
        return run_lengths.merge(run_lengths.frPyObjects(polygon(box), 300, 400))

    annotations = []
    for number, entry in enumerate(truth["annotations"]):
        mask = polygon(entry["bbox"]) if number % 3 else encoding(entry["bbox"])
        if number % 3 == 2:
            pixels = run_lengths.decode(encoding(entry["bbox"])).ravel(order="F")
            ends = np.flatnonzero(np.diff(np.concatenate([[0], pixels, [2]])))
            mask = {"size": [300, 400], "counts": np.diff(np.concatenate([[0], ends])).tolist()}
        annotations.append(entry | {"segmentation": mask})
    masked = [result | {"segmentation": encoding(result["bbox"])} for result in results]
    masked = [{key: result[key] for key in result if key != "bbox"} for result in masked]
    for entry in annotations:
        if isinstance(entry["segmentation"], dict):
            entry["segmentation"] = as_json(entry["segmentation"])
    return truth | {"annotations": annotations}, masked


def evaluate_masks(truth, results):
    """The evaluator on COCO results with masks, as if read from a file."""
    rows = detections_of([result | {"bbox": [0, 0, 0, 0]} for result in results])
    rows["segmentation"] = pd.Series([as_json(result["segmentation"]) for result in results], dtype=object)
    return evaluate(truth, rows, ["(1,1)"], iou_type="segm")


def as_json(mask):
    """A mask as JSON holds it: text, not bytes."""
    counts = mask["counts"]
    return mask | {"counts": counts.decode() if isinstance(counts, bytes) else counts}


def test_masks_equal_pycocotools():
    for problem in drawn(200):
        truth, results = with_masks(*problem)
        check_table(evaluate_masks(truth, results), pycocotools_evaluation(truth, results, "segm"))


def test_table_equals_pycocotools():
    for truth, results in drawn(200):
        untouched = copy.deepcopy(truth)
        check_table(evaluate(truth, detections_of(results), ["(1,1)"]), pycocotools_evaluation(truth, results))
        assert truth == untouched


@needs_example
def test_pycocotools_example_boxes():
    truth = json.loads((EXAMPLE / "instances_val2014_100.json").read_text())
    results = json.loads((EXAMPLE / "instances_val2014_fakebbox100_results.json").read_text())
    expected = pycocotools_evaluation(truth, results)
    check_equal(kernel(truth, results), expected)
    check_table(evaluate(truth, detections_of(results)), expected)
    assert round(expected.stats[0], 3) == 0.505


@needs_example
def test_pycocotools_example_masks():
    """COCO's own polygons and crowd encodings, with ellipses in the detections' boxes as masks."""
    truth = json.loads((EXAMPLE / "instances_val2014_100.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    results = []
    for result in json.loads((EXAMPLE / "instances_val2014_fakebbox100_results.json").read_text()):
        x, y, w, h = result.pop("bbox")
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        ring = np.stack([x + w / 2 * (1 + np.cos(angle)), y + h / 2 * (1 + np.sin(angle))], axis=1).ravel().tolist()
        (mask,) = run_lengths.frPyObjects([ring], *sizes[result["image_id"]])
        results.append(result | {"segmentation": mask | {"counts": mask["counts"].decode()}})
    expected = pycocotools_evaluation(truth, results, "segm")
    check_table(evaluate_masks(truth, results), expected)
    assert expected.stats[0] > 0.1


def test_nan_scores_are_refused():
    with pytest.raises(InputError, match=r"row 1 \(counted from 0\): the score is NaN"):
        ordered_detections(1, np.zeros(2, int), np.zeros(2, int), np.array([0.5, np.nan]), np.zeros((2, 4)))


def test_more_detections_than_were_matched_are_refused():
    truth, _ = drawn(1)[0]
    table = ground_truth_table(read_ground_truth(truth))
    empty = ordered_detections(table.classes, np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, 4)))
    with pytest.raises(ValueError, match="matched up to 10 only"):
        accumulate(table, match(table, empty, limit=10), (1, 10, 100))
    with pytest.raises(ValueError, match="1 to 65535"):
        match(table, empty, limit=2**16)


def test_boxes_of_one_image_take_objects_by_the_same_rule():
    overlaps = np.array([[0.6, 0.7], [0.1, 0.9], [0.55, 0.55], [0.7, 0.2]])
    of_boxes, of_objects = match_boxes(overlaps, np.array([0.5, 0.65]))
    # The first box takes the second object although a later box fits it better.
    assert of_boxes.tolist() == [[[True, False, True, False], [True, False, False, True]]]
    assert of_objects.all()
    # Of equal IoUs the last object is taken; one that does not count is taken only by a box that finds no other.
    assert match_boxes(np.array([[0.6, 0.6]]), np.array([0.6]))[1].tolist() == [[[False, True]]]
    of_boxes, _ = match_boxes(overlaps, np.array([0.5]), np.array([[False, False], [False, True]]))
    assert of_boxes[:, 0].tolist() == [[True, False, True, False], [True, False, False, False]]
    assert match_boxes(np.empty((2, 0)), np.array([0.5]))[0].tolist() == [[[False, False]]]


STAGES, OF_A_STAGE = 20, 5000
TRUTH = annotations([(3, 1, 0, 0, 9, 9)], images=[3, 8], categories=1)


def test_memory_is_that_of_one_test_stage():
    """Of all rows nothing as large as a copy of their columns (52 bytes a row) is made."""
    random, rows = np.random.default_rng(0), STAGES * OF_A_STAGE
    labels = pd.Categorical.from_codes(np.repeat(np.arange(STAGES), OF_A_STAGE), [f"({n},1)" for n in range(STAGES)])
    detections = pd.DataFrame({"image_id": random.choice([3, 8], rows), "test_stage": labels, "category_id": 1})
    for name in ("score", "x", "y", "w", "h"):
        detections[name] = random.random(rows, dtype=np.float32)
    table = ground_truth_table(read_ground_truth(TRUTH))
    list(match_stages(table, detections[:10]))  # whose compiling takes memory, too
    tracemalloc.start()
    seen = [label for label, _ in match_stages(table, detections)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == list(labels.categories)
    assert peak / rows < 30
