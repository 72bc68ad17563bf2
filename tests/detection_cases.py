"""Annotations and detections that tests write down or draw."""

import numpy as np
import pandas as pd


def annotations(boxes, images, categories=3, **of_image):
    """COCO annotations from rows of image id, category id, x, y, w, h and, optionally, whether it is a crowd.

    Images are given by their ids or their number, ids then count from 0; categories by their names or their number, and
    their ids count from 1. All images have the entries `of_image`.
    """
    entries = []
    for number, (image_id, category_id, x, y, w, h, *crowd) in enumerate(boxes, start=1):
        box = [float(value) for value in (x, y, w, h)]
        entry = {"id": number, "image_id": int(image_id), "category_id": int(category_id), "bbox": box}
        entries.append(entry | {"area": box[2] * box[3], "iscrowd": int(bool(crowd and crowd[0]))})
    names = [f"class {n}" for n in range(1, categories + 1)] if isinstance(categories, int) else categories
    return {
        "images": [{"id": n} | of_image for n in (range(images) if isinstance(images, int) else images)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": entries,
    }


def detections(rows, test_stage="(1,1)"):
    """Table of detections from rows of image id, category id, score, x, y, w, h."""
    table = pd.DataFrame(rows, columns=["image_id", "category_id", "score", "x", "y", "w", "h"])
    table["test_stage"] = pd.Categorical([test_stage] * len(table))
    return table.astype({"image_id": "int64", "category_id": "int64"})


def detections_of(results, test_stage="(1,1)"):
    """Table of the detections of COCO results."""
    return detections([(r["image_id"], r["category_id"], r["score"], *r["bbox"]) for r in results], test_stage)


def random_case(seed, images=12, crowd=0.0):
    """Detections around the ground truth, some of another class, some twice, some anywhere; no two scores are equal."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for image_id in range(images):
        for _ in range(int(rng.integers(0, 7))):
            x, y, w, h = *rng.uniform(0, 300, 2), *rng.uniform(10, 120, 2)
            category = int(rng.integers(1, 4))
            truth.append((image_id, category, x, y, w, h, rng.uniform() < crowd))
            for _ in range(int(rng.integers(0, 5))):
                label = category if rng.uniform() < 0.7 else int(rng.integers(1, 4))
                moved = np.array([x, y, w, h]) + rng.normal(0, 0.15, 4) * [w, h, w, h]
                found.append((image_id, label, rng.uniform(), *moved[:2], *np.maximum(moved[2:], 1)))
        for _ in range(int(rng.integers(0, 4))):
            box = *rng.uniform(0, 300, 2), *rng.uniform(10, 120, 2)
            found.append((image_id, int(rng.integers(1, 4)), rng.uniform(), *box))
    return annotations(truth, images), detections(found)
