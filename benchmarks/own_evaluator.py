"""Times CascadeBench's evaluator in a process of its own.

    python -m benchmarks.own_evaluator evaluation|stages|file|bootstrap|compilation FOLDER REPEATS

FOLDER is filled by ``benchmarks.evaluation``. One line of JSON is printed.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.other_evaluators import peak_mb
from cascadebench.metrics.coco.accumulation import Accumulation, accumulate
from cascadebench.metrics.coco.detection_order import ordered_detections
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.metrics.coco.evaluate_files import evaluate_files
from cascadebench.metrics.coco.ground_truth import GroundTruth, read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable, ground_truth_table
from cascadebench.metrics.coco.matching import Matches, match
from cascadebench.uncertainty.bootstrap import bootstrap
from cascadebench.uncertainty.curves import QUANTITIES, read_off, signed_sum
from cascadebench.uncertainty.intervals import interval

Arrays = tuple[np.ndarray, ...]
COLUMNS = ("image_id", "category_id", "score", "x", "y", "w", "h")
RESAMPLES = 1000
STAGES = {"evaluation": 1, "stages": 10, "bootstrap": 2, "compilation": 1}
"""Test stages that a measurement reads."""


def seconds_of(function: Callable[[], object], repeats: int) -> list[float]:
    """Wall time of every call after a first one that is not counted."""
    function()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return seconds


def arrays(rows: pd.DataFrame) -> Arrays:
    """The columns of one test stage, as the timed functions take them."""
    return tuple(rows[name].to_numpy() for name in COLUMNS)


def each_stage(rows: pd.DataFrame) -> list[Arrays]:
    """The columns of every test stage, not copied: a file goes test stage by test stage."""
    ends = [0, *(np.flatnonzero(np.diff(rows["test_stage"].cat.codes)) + 1), len(rows)]
    return [arrays(rows.iloc[first:last]) for first, last in pairwise(ends)]


def matched(table: GroundTruthTable, detections: Arrays) -> Matches:
    image_id, category_id, score, *box = detections
    category, image = table.category_index(category_id), table.image_index(image_id)
    return match(table, ordered_detections(table.classes, category, image, score, np.stack(box, axis=1)))


def evaluated(truth: GroundTruth, stages: list[Arrays]) -> Iterator[Accumulation]:
    """Everything that is timed: ordering the ground truth, looking up ids, ordering, matching, accumulating."""
    table = ground_truth_table(truth)
    for detections in stages:
        yield accumulate(table, matched(table, detections))


def measure(what: str, folder: Path, repeats: int) -> dict[str, object]:
    """Run one of the measurements."""
    if what == "file":  # as `cascadebench evaluate` does
        paths = folder / "val.json", folder / f"stages_{STAGES['stages']}.parquet"
        return {"seconds": seconds_of(lambda: evaluate_files(*paths), repeats)}
    begin = time.perf_counter()
    rows = read_detections(folder / f"stages_{STAGES[what]}.parquet")
    truth = read_ground_truth(folder / "val.json")
    loading = time.perf_counter() - begin
    stages = each_stage(rows)
    if what == "evaluation":
        (found,) = evaluated(truth, stages)
        np.save(folder / "cascadebench.npy", found.precision)
        return {"loading": loading, "seconds": seconds_of(lambda: list(evaluated(truth, stages)), repeats)}
    if what == "stages":
        # Of every test stage its AP and recall are kept, as in its table.
        seconds = seconds_of(lambda: [(found.ap, found.recall) for found in evaluated(truth, stages)], repeats)
        return {"seconds": seconds, "stages": len(stages)}
    if what == "bootstrap":
        table = ground_truth_table(truth)
        models = {str(number): matched(table, detections) for number, detections in enumerate(stages)}

        def resampled() -> None:
            found = bootstrap(table, models, seed=0, resamples=RESAMPLES)
            curves = {name: found.curve(name) for name in models}
            difference = signed_sum([(1, curves["1"]), (-1, curves["0"])])
            for ends in QUANTITIES.values():
                interval({0: read_off(difference, *ends)}, seed=0)
                for curve in curves.values():
                    interval({0: read_off(curve, *ends)}, seed=0)

        return {"seconds": seconds_of(resampled, repeats), "resamples": RESAMPLES, "models": len(models)}
    begin = time.perf_counter()
    list(evaluated(truth, stages))
    table = ground_truth_table(truth)
    bootstrap(table, {"first": matched(table, stages[0])}, seed=0, resamples=2)
    return {"seconds": [time.perf_counter() - begin]}


if __name__ == "__main__":
    report = measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(report | {"peak_mb": peak_mb()}))
