"""Matching test stage by test stage."""

import tracemalloc

import numpy as np
import pandas as pd
from detection_cases import annotations

from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import ground_truth_table
from cascadebench.metrics.coco.stage_matches import match_stages

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
