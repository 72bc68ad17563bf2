"""From what the heads of a cascade gave to boxes and scores of every test stage; the same rules in every framework."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cascadebench.test_stages import TestStage


@dataclass(frozen=True)
class StageOutputs:
    """What T stages give for R proposals of one image, row by row.

    Attributes
    ----------
    boxes : list of T tensors, float32 [R, 4 or 4 * classes]
        Decoded and clipped, in pixels of the resized image.
    logits : list of T tensors, float32 [R, classes + 1]
        Every classifier on its own stage's RoIs, background last.
    last_logits : list of T tensors, float32 [R, classes + 1]
        Every classifier on the last stage's RoIs.
    """

    boxes: list[Tensor]
    logits: list[Tensor]
    last_logits: list[Tensor]


def boxes_and_scores(
    test_stages: Sequence[TestStage], outputs: StageOutputs
) -> Iterator[tuple[TestStage, Tensor, Tensor]]:
    """Pair boxes and class probabilities for every test stage.

    Parameters
    ----------
    test_stages : sequence of TestStage
        What to pair.
    outputs : StageOutputs
        What the stages gave.

    Yields
    ------
    TestStage, boxes [R, 4 or 4 * classes], probabilities [R, classes + 1]
    """
    for test_stage in test_stages:
        chosen = [outputs.logits[classifier - 1] for classifier in test_stage.classifiers]
        if test_stage.rule == "logits":
            scores = torch.stack(chosen).mean(0).softmax(-1)
        elif test_stage.rule == "last_rois":
            on_last = [outputs.last_logits[classifier - 1] for classifier in test_stage.classifiers]
            scores = torch.stack([given.softmax(-1) for given in on_last]).mean(0)
        else:
            scores = torch.stack([given.softmax(-1) for given in chosen]).mean(0)
        yield test_stage, outputs.boxes[test_stage.boxes - 1], scores
