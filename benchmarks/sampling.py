"""What drawing the anchors or RoIs of an image costs: the library's sampler beside the frameworks' own, in turn.

``python -m benchmarks.sampling`` prints medians of processor time in milliseconds, and their ratio.
"""

import time
from functools import partial
from statistics import median

import torch
from detectron2.modeling.sampling import subsample_labels
from torch import Tensor

import adapters.mmdet  # noqa: F401 (before MMDetection: it provides mmcv's operators)
from adapters.training.seeding import seed_torch
from adapters.training.shared_sampling import draw

PAIRS = 100
CASES = {"anchors, 800 x 1344": (268_569, 60, 3000, 256, 0.5), "proposals": (1000, 120, 0, 512, 0.25)}
"""Candidates, positives and neither among them, how many are drawn, and the share of positives."""


def mmdet(labels: Tensor, number: int, share: float) -> None:
    """Draw as MMDetection's sampler does."""
    from mmdet.models.task_modules.assigners import AssignResult
    from mmdet.models.task_modules.samplers import RandomSampler

    seed_torch(0)
    sampler, matched = RandomSampler(number, share), AssignResult(1, labels, labels, labels)
    positives = sampler._sample_pos(matched, int(number * share)).unique()
    sampler._sample_neg(matched, number - len(positives)).unique()


def detectron2(labels: Tensor, number: int, share: float) -> None:
    """Draw as Detectron2's models do."""
    seed_torch(0)
    subsample_labels(labels, number, share, 0)


def shared(labels: Tensor, number: int, share: float) -> None:
    """Draw as both do under the common rules."""
    draw(labels > 0, labels == 0, number, share, 0)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    for case, (total, positives, neither, *quotas) in CASES.items():
        labels = torch.zeros(total, dtype=torch.int64)
        places = torch.randperm(total)
        labels[places[:positives]], labels[places[positives : positives + neither]] = 1, -1
        sides = [partial(side, labels, *quotas) for side in (mmdet, detectron2, shared)]
        seconds: list[list[float]] = [[], [], []]
        for _ in range(PAIRS):
            for side, found in zip(sides, seconds, strict=True):
                began = time.process_time()
                side()
                found.append(time.process_time() - began)
        *own, common = (1000 * median(found) for found in seconds)
        for name, taken in zip(("mmdet", "detectron2"), own, strict=True):
            print(f"{case}: {name} {taken:.3f} ms, shared {common:.3f} ms, ratio {common / taken:.2f}")


if __name__ == "__main__":
    main()
