"""Times one public COCO evaluator in a process of its own, without anything of CascadeBench.

    python benchmarks/other_evaluators.py NAME FOLDER REPEATS

FOLDER holds ``val.json`` and ``results.json``; the precision array is left there, and one line of JSON is printed.
"""

import contextlib
import importlib
import importlib.metadata
import io
import json
import sys
import time
from pathlib import Path

MODULES = {
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval"),
    "faster-coco-eval": ("faster_coco_eval", "faster_coco_eval"),
    "hotcoco": ("hotcoco", "hotcoco"),
    "ultrafast-pycocotools": ("ultrafast_pycocotools", "ultrafast_pycocotools"),
}


def main(name: str, folder: Path, repeats: int) -> None:
    """Load once; then evaluate, accumulate and read the precision array, `repeats` times."""
    data, evaluators = (importlib.import_module(module) for module in MODULES[name])
    evaluator = evaluators.COCOeval_faster if name == "faster-coco-eval" else evaluators.COCOeval
    seconds = []
    with contextlib.redirect_stdout(io.StringIO()):
        begin = time.perf_counter()
        truth = data.COCO(str(folder / "val.json"))
        found = truth.loadRes(str(folder / "results.json"))
        loading = time.perf_counter() - begin
        import numpy as np

        for _ in range(repeats):
            begin = time.perf_counter()
            evaluation = evaluator(truth, found, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            precision = np.asarray(evaluation.eval["precision"])
            seconds.append(time.perf_counter() - begin)
    np.save(folder / f"{name}.npy", precision)
    report = {"version": importlib.metadata.version(name), "loading": loading, "seconds": seconds, "peak_mb": peak_mb()}
    print(json.dumps(report))


def peak_mb() -> float:
    """Peak memory of this process; getrusage would count the process that started it too."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
