"""What the witness adds to the inspection of a study: ``python -m benchmarks.witness FRAMEWORK [--seeds 5]``.

The runs of the embedded study, with so many seeds each, are inspected in one process as the pipeline does. Seconds of
processor; the start of the process, which imports the framework, counts as inspection.
"""

import argparse
import gc
import time

import torch

from adapters.commands import load_adapter
from adapters.inspection.cost import cost_of
from adapters.witness.witnessing import as_entries, witness_at_inspection
from cascadebench.study_loading import load_study


def measure(framework: str, seeds: int) -> tuple[int, float, float]:
    """Number of runs, and seconds without and of the witness."""
    torch.set_num_threads(1)
    adapter = load_adapter(framework)
    planned = [one.run for one in load_study("tiny").runs if one.run.framework == framework]
    runs = [run.model_copy(update={"seed": seed}) for seed in range(seeds) for run in planned]
    witnessed = 0.0
    for run in runs:
        gc.collect()
        built = adapter.build(run)
        controls = adapter.read_controls(built)
        cost_of(adapter, built.model, run)
        begun = time.process_time()
        as_entries(witness_at_inspection(adapter, built, controls))
        witnessed += time.process_time() - begun
    return len(runs), time.process_time() - witnessed, witnessed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framework")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    number, inspection, share = measure(given.framework, given.seeds)
    total = f"{given.framework}: {number} runs, {inspection:.1f} s"
    print(f"{total}; the witness {share:.1f} s, {share / inspection:.2f} of it")
