"""Measures the evaluator beside public ones, on generated data of the size of COCO's validation set.

    python -m venv /tmp/evaluators
    /tmp/evaluators/bin/pip install pycocotools hotcoco ultrafast-pycocotools faster-coco-eval
    python -m benchmarks.evaluation --evaluators /tmp/evaluators/bin/python

Evaluators that are not installed there are left out. Timed is what happens between arrays or objects in memory and the
precision array: for the others ``evaluate()``, ``accumulate()`` and reading ``eval["precision"]``; for CascadeBench
ordering the ground truth, looking up ids, ordering the detections, matching, and accumulating precision at every IoU
threshold, class, area and limit. Reading files is not in it and is given apart: JSON for the others, JSON and Parquet
for CascadeBench. Every evaluator has a process of its own, whose peak memory is given, and one thread unless asked
otherwise.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.generated_detections import Detector, generated_detections, generated_truth, object_ease
from cascadebench.core.configuration import PROJECT
from cascadebench.core.files import write_text
from cascadebench.metrics.coco.detections import write_detections
from cascadebench.metrics.coco.ground_truth import GroundTruth

EVALUATORS = ("pycocotools", "faster-coco-eval", "hotcoco", "ultrafast-pycocotools")
STAGES = 10
CONSOLE = Console(width=130, highlight=False)


def write_problem(folder: Path, images: int) -> str:
    """Write ground truth and detections of ten test stages as all evaluators read them; returns their numbers."""
    random = np.random.default_rng(0)
    share = images / 5000
    truth = generated_truth(random, images, objects=round(36335 * share), crowds=round(446 * share))
    detectors = [Detector(spread=0.07 - 0.002 * number) for number in range(STAGES)]
    ease = object_ease(random, truth)
    found = [generated_detections(random, truth, ease, detector, round(392_000 * share)) for detector in detectors]
    write_text(folder / "val.json", json.dumps(as_coco(truth)))
    columns = ("image_id", "category_id", "score")
    entries = found[0][list(columns)].astype({"score": "float64"}).to_dict(orient="records")
    boxes = found[0][["x", "y", "w", "h"]].astype("float64").to_numpy().tolist()
    results = [entry | {"bbox": box} for entry, box in zip(entries, boxes, strict=True)]
    write_text(folder / "results.json", json.dumps(results))
    stages = [rows.assign(test_stage=f"stage {number}") for number, rows in enumerate(found)]
    for count in (1, 2, STAGES):
        write_detections(folder / f"stages_{count}.parquet", pd.concat(stages[:count], ignore_index=True))
    crowds = int(truth.boxes["iscrowd"].sum())
    return (
        f"{images} images, {len(truth.category_ids)} classes, {len(truth.boxes)} objects of which {crowds} crowd "
        f"regions, {len(found[0])} detections"
    )


def as_coco(truth: GroundTruth) -> dict[str, list[dict[str, object]]]:
    """Ground truth as the content of a COCO file."""
    rows = truth.boxes
    boxes = rows[["x", "y", "w", "h"]].to_numpy().tolist()
    entries = rows[["image_id", "category_id", "iscrowd", "area"]].to_dict(orient="records")
    return {
        "images": [{"id": image_id, "width": 640, "height": 480} for image_id in truth.image_ids.tolist()],
        "categories": [
            {"id": category_id, "name": name}
            for category_id, name in zip(truth.category_ids.tolist(), truth.category_names, strict=True)
        ],
        "annotations": [
            entry | {"id": number, "bbox": box}
            for number, (entry, box) in enumerate(zip(entries, boxes, strict=True), start=1)
        ],
    }


def report_of(command: Sequence[str], threads: int, **environment: str) -> dict:
    """What a measuring process prints; raises CalledProcessError if it fails."""
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("RAYON", "OMP", "NUMBA", "OPENBLAS")}
    answer = subprocess.run(
        command, cwd=PROJECT, env=os.environ | limits | environment, capture_output=True, text=True, check=True
    )
    return json.loads(answer.stdout.splitlines()[-1])


def single_evaluations(folder: Path, evaluators: str | None, repeats: int, threads: int) -> float:
    """Print the table of one evaluation by everyone; returns CascadeBench's seconds."""
    own = report_of(own_command("evaluation", folder, repeats), threads)
    seconds = median(own["seconds"])
    precision = np.load(folder / "cascadebench.npy")
    rows = [("CascadeBench", version("cascadebench"), own, precision)]
    for name in EVALUATORS if evaluators else ():
        # A minute each, and not what is noisy.
        calls = 1 if name == "pycocotools" else repeats
        script = str(PROJECT / "benchmarks" / "other_evaluators.py")
        try:
            report = report_of([evaluators, script, name, str(folder), str(calls)], threads)
        except subprocess.CalledProcessError as error:
            CONSOLE.print(f"{name}: left out: {error.stderr.strip().splitlines()[-1]}", markup=False)
            continue
        rows.append((name, report["version"], report, np.load(folder / f"{name}.npy")))
    table = Table(
        "evaluator", "version", "evaluation s", "against CascadeBench", "reading s", "peak MB", "precision", box=SIMPLE
    )
    reference = {row[0]: row[3] for row in rows}.get("pycocotools")
    for name, number, report, found in rows:
        taken = median(report["seconds"])
        table.add_row(
            name,
            number,
            f"{taken:.3f}",
            f"{taken / seconds:.1f} x",
            f"{report['loading']:.1f}",
            f"{report['peak_mb']:.0f}",
            "" if reference is None else difference(found, reference),
        )
    CONSOLE.print(table)
    return seconds


def difference(found: np.ndarray, reference: np.ndarray) -> str:
    """How far the precision array is from pycocotools'."""
    if np.array_equal(found, reference):
        return "equal to the bit"
    return f"off by up to {np.abs(found.reshape(reference.shape) - reference).max():.0e}"


def own_command(what: str, folder: Path, repeats: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.own_evaluator", what, str(folder), str(repeats)]


def own_figures(folder: Path, single: float, repeats: int) -> None:
    """Print what concerns CascadeBench alone."""
    stages, file, resampled = (
        report_of(own_command(what, folder, repeats), 1) for what in ("stages", "file", "bootstrap")
    )
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (report_of(own_command("compilation", folder, 1), 1, NUMBA_CACHE_DIR=cache) for _ in range(2))
    table = Table("CascadeBench", "seconds", "against one evaluation", "peak MB", box=SIMPLE)
    for words, report in (
        (f"{stages['stages']} test stages, ground truth ordered once", stages),
        (f"the file of {stages['stages']} test stages, from reading it to the summaries", file),
        (f"{resampled['resamples']} paired resamples of {resampled['models']} models, with their intervals", resampled),
    ):
        taken = median(report["seconds"])
        table.add_row(words, f"{taken:.2f}", f"{taken / single:.1f} x", f"{report['peak_mb']:.0f}")
    for words, report in (("nothing compiled yet", cold), ("in the next process", warm)):
        taken = report["seconds"][0]
        table.add_row(f"one evaluation and two resamples, {words}", f"{taken:.2f}", "", f"{report['peak_mb']:.0f}")
    CONSOLE.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluators", help="Python that has the public evaluators; without it only CascadeBench runs")
    parser.add_argument("--images", type=int, default=5000, help="size of the problem; 5000 as in COCO")
    parser.add_argument("--repeats", type=int, default=7, help="calls of which the median is printed")
    parser.add_argument("--threads", type=int, default=1, help="threads that the other evaluators may use")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "pandas"))
    CONSOLE.print(f"python -m benchmarks.evaluation {' '.join(sys.argv[1:])}", markup=False)
    CONSOLE.print(f"Python {platform.python_version()}, {versions}, {platform.machine()}, {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        CONSOLE.print(write_problem(folder, options.images))
        single = single_evaluations(folder, options.evaluators, options.repeats, options.threads)
        own_figures(folder, single, options.repeats)


if __name__ == "__main__":
    main()
