"""Generated problems that sit on the edges of COCO's rules."""

import numpy as np

_SIDES = (1, 7.5, 10, 31.9, 32, 32.1, 33, 95.9, 96, 96.1, 140)
_PLACES = (0, 1, 5, 10, 10.5, 40)
_AREAS = (0, 1023.9, 1024, 1024.1, 9215.9, 9216, 9216.1, 20000)


def adversarial_problem(number):
    """Annotations and results of problem `number`: ground truth as COCO's JSON holds it, and a list of detections.

    Among the problems are ties of score and of IoU, crowd regions, areas at both sides of every end, more than 100
    detections per class and image, images and classes with nothing, ids in no order, and scores in single precision.
    """
    random = np.random.default_rng([20, number])
    image_ids = random.permutation(1000)[: random.integers(1, 7)].tolist()
    category_ids = random.permutation(90)[: random.integers(1, 5)].tolist()
    objects = _boxes(random, int(random.integers(0, 25)))
    crowded = random.choice([0, 0.1, 0.5])
    annotations = [
        {
            "id": int(identity) + 1,
            "image_id": int(random.choice(image_ids)),
            "category_id": int(random.choice(category_ids)),
            "bbox": box,
            "area": float(random.choice(_AREAS)) if random.random() < 0.4 else box[2] * box[3],
            "iscrowd": int(random.random() < crowded),
        }
        for identity, box in zip(random.permutation(len(objects)), objects, strict=True)
    ]
    truth = {
        "images": [{"id": image_id, "width": 400, "height": 300} for image_id in image_ids],
        "categories": [{"id": category_id, "name": f"c{category_id}"} for category_id in category_ids],
        "annotations": annotations,
    }
    results = _results(random, truth)
    if random.random() < 0.5:
        _add_symmetric_objects(random, truth, results)
    return truth, results


def _add_symmetric_objects(random, truth, results):
    """Add two objects and a detection midway, of equal IoU with both; a later detection shows which of them it took."""
    image_id, category_id = truth["images"][0]["id"], truth["categories"][-1]["id"]
    x, y, shift = 16.0 * int(random.integers(1, 6)), 200.0, float(random.choice([2, 4, 8]))
    sides = [[x + shift * step, y, 64.0, 64.0] for step in (-1, 1)]
    # Of two categories in some problems: without categories those decide which object is the later one.
    categories = [category_id, int(random.choice([category_id, truth["categories"][0]["id"]]))]
    for box, category in zip(sides, random.permutation(categories).tolist(), strict=True):
        place = {"image_id": image_id, "category_id": category, "bbox": box}
        truth["annotations"].append(place | {"id": 1000 + len(truth["annotations"]), "area": 4096.0, "iscrowd": 0})
    for box, score in (([x, y, 64.0, 64.0], 0.95), (sides[random.integers(2)], 0.85)):
        results.append({"image_id": image_id, "category_id": category_id, "bbox": box, "score": score})


def _boxes(random, count):
    """Boxes whose corners and sides repeat, so that areas are ends of ranges and IoUs tie."""
    if random.random() < 0.3:
        return np.concatenate([random.uniform(0, 60, (count, 2)), random.uniform(1, 120, (count, 2))], axis=1).tolist()
    return [
        [float(random.choice(_PLACES)) for _ in range(2)] + [float(random.choice(_SIDES)) for _ in range(2)]
        for _ in range(count)
    ]


def _results(random, truth):
    """Detections: objects as they are, shifted ones, boxes of nothing; in no order."""
    places = [(image["id"], category["id"]) for image in truth["images"] for category in truth["categories"]]
    results = []
    for entry in truth["annotations"]:
        for _ in range(int(random.integers(0, 4))):
            shift = random.choice([0, 0, 1, 3], size=4) * random.choice([0.5, 1.0, -0.7])
            box = np.maximum(np.array(entry["bbox"]) + shift, 0).tolist()
            results.append({"image_id": entry["image_id"], "category_id": entry["category_id"], "bbox": box})
    crowd_of_detections = 230 if random.random() < 0.15 else 0
    for count in (int(random.integers(0, 15)), crowd_of_detections):
        image_id, category_id = places[random.integers(len(places))]
        for box in _boxes(random, count):
            if not crowd_of_detections:
                image_id, category_id = places[random.integers(len(places))]
            results.append({"image_id": image_id, "category_id": category_id, "bbox": box})
    kind = random.integers(4)
    for result in results:
        score = random.random() if kind else float(random.choice([0.1, 0.5, 0.5 + 1e-9, 0.9]))
        score = round(score, 1) if kind == 1 else float(np.float32(score)) if kind == 2 else score
        # Scores may be any numbers: signs and zeros of both signs among them.
        result["score"] = score - 0.5 if number_of(truth) % 7 == 0 else score * float(random.choice([1, 1, 1, -0.0]))
    return [results[place] for place in random.permutation(len(results))]


def number_of(truth):
    """Some number that belongs to the problem."""
    return len(truth["annotations"])
