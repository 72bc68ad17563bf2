"""Problems that Hypothesis draws, and makes small where one fails; and what makes a problem adversarial."""

from collections import Counter
from functools import cache

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

# Few values, so that scores and IoUs tie; sides at which a box's area is an end of COCO's ranges. And any value.
_CORNER = st.sampled_from([0, 5, 10, 40.5]) | st.floats(0, 300)
_SIDE = st.sampled_from([10, 12, 32, 33, 96, 97.25]) | st.floats(1, 140)
_SQUARE = st.tuples(_CORNER, _CORNER, st.sampled_from([32, 96])).map(lambda box: [*box, box[2]])
_BOX = st.tuples(_CORNER, _CORNER, _SIDE, _SIDE).map(list) | _SQUARE
_AREA = st.sampled_from([None, None, 0, 1023.9, 1024, 1024.1, 9215.9, 9216, 9216.1]) | st.floats(0, 20000)
_SCORE = (
    st.sampled_from([0.1, 0.5, 0.5 + 1e-9, 0.9, 0.0, -0.0])
    | st.floats(0, 1, width=32)  # in single precision, as most detectors give them
    | st.floats(-1, 1)
)
_IDS = st.lists(st.integers(0, 90), min_size=1, max_size=4, unique=True)


@st.composite
def problems(draw):
    """Annotations and results: ground truth as COCO's JSON holds it, and a list of detections."""
    image_ids, category_ids = draw(_IDS), draw(_IDS)
    place = {"image_id": st.sampled_from(image_ids), "category_id": st.sampled_from(category_ids)}
    detection = st.fixed_dictionaries(place | {"bbox": _BOX, "score": _SCORE})
    crowd = st.sampled_from([0, 0, 0, 1])
    objects = st.fixed_dictionaries(place | {"bbox": _BOX, "iscrowd": crowd, "area": _AREA})
    annotations, results = draw(st.lists(objects, max_size=8)), draw(st.lists(detection, max_size=10))
    if draw(st.booleans()):
        _add_equal_overlaps(draw(detection), draw(st.sampled_from([1, 2, 4])), annotations, results)
    results += [
        {**{key: entry[key] for key in place}, "bbox": entry["bbox"], "score": draw(_SCORE)}
        for entry in annotations
        if draw(st.booleans())
    ]
    results *= draw(st.sampled_from([1, 1, 3]))
    if results and draw(st.integers(0, 4)) == 4:  # more than count, some of them with scores of their own
        step = draw(st.sampled_from([0, 0, 2**-10]))
        results += [results[0] | {"score": results[0]["score"] + step * n} for n in range(draw(st.integers(100, 125)))]
    ids = draw(st.permutations(range(1, len(annotations) + 1)))
    for annotation, number in zip(annotations, ids, strict=True):
        annotation["id"] = number
        annotation["ignore"] = 1  # which pycocotools overwrites
        if annotation["area"] is None:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    truth = {
        "images": [{"id": image_id, "width": 400, "height": 300} for image_id in image_ids],
        "categories": [{"id": category_id, "name": f"c{category_id}"} for category_id in category_ids],
        "annotations": annotations,
    }
    return truth, results


@cache
def drawn(count):
    """So many problems, the same ones every time; what is done with one leaves it as it is."""
    found = []

    @settings(max_examples=count, deadline=None, derandomize=True, phases=[Phase.generate])
    @given(problems())
    def keep(problem):
        found.append(problem)

    keep()
    return found


def _add_equal_overlaps(between, shift, annotations, results):
    """Add two objects and a detection midway, of equal IoU with both; a later detection shows which of them it took."""
    x, y = 32.0, 64.0
    sides = [between | {"bbox": [x + step, y, 64.0, 64.0]} for step in (-shift, shift)]
    annotations += [{**side, "iscrowd": 0, "area": 4096.0} for side in sides]
    for entry in annotations[-2:]:
        del entry["score"]
    results += [between | {"bbox": [x, y, 64.0, 64.0]}, sides[0] | {"score": between["score"] - 0.5}]


KINDS = (
    "tied scores", "tied IoUs", "crowd regions", "area at an end", "area of a detection at an end",
    "over 100 detections", "no objects of a class", "an image without objects", "no objects", "no detections",
    "images in no order", "categories in no order", "scores in single precision", "negative scores",
)  # fmt: skip
"""What a problem may hold."""


def kinds_of(truth, results):
    """Those of :data:`KINDS` that a problem holds."""
    annotations = truth["annotations"]
    scores = [result["score"] for result in results]
    cells = Counter((result["image_id"], result["category_id"]) for result in results)
    ids = {key: [entry["id"] for entry in truth[key]] for key in ("images", "categories")}
    held = {
        "tied scores": len(set(scores)) < len(scores),
        "tied IoUs": _tied(annotations, results),
        "crowd regions": any(entry["iscrowd"] for entry in annotations),
        "area at an end": any(entry["area"] in (1024, 9216) for entry in annotations),
        "area of a detection at an end": any(r["bbox"][2] * r["bbox"][3] in (1024, 9216) for r in results),
        "over 100 detections": max(cells.values(), default=0) > 100,
        "no objects of a class": len({entry["category_id"] for entry in annotations}) < len(truth["categories"]),
        "an image without objects": len({entry["image_id"] for entry in annotations}) < len(truth["images"]),
        "no objects": not annotations,
        "no detections": not results,
        "images in no order": ids["images"] != sorted(ids["images"]),
        "categories in no order": ids["categories"] != sorted(ids["categories"]),
        "scores in single precision": any(s and s != round(s, 1) and s == np.float32(s) for s in scores),
        "negative scores": any(score < 0 for score in scores),
    }
    assert tuple(held) == KINDS
    return {kind for kind, holds in held.items() if holds}


def _tied(annotations, results):
    """Whether a detection's highest IoU is that of two objects."""
    for result in results:
        key = result["image_id"], result["category_id"]
        boxes = [entry["bbox"] for entry in annotations if (entry["image_id"], entry["category_id"]) == key]
        overlaps = sorted(_iou(box, result["bbox"]) for box in boxes)
        if len(overlaps) > 1 and overlaps[-1] == overlaps[-2] >= 0.5:
            return True
    return False


def _iou(one, other):
    width, height = (min(one[n] + one[n + 2], other[n] + other[n + 2]) - max(one[n], other[n]) for n in (0, 1))
    inside = max(width, 0) * max(height, 0)
    return inside / (one[2] * one[3] + other[2] * other[3] - inside)
