"""From what the heads of a cascade gave to boxes and scores of every test stage; the same rules in every framework."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cascadebench.test_stages import TestStage


def boxes_and_scores(
    test_stages: Sequence[TestStage], boxes: Sequence[Tensor], logits: Sequence[Tensor], last_logits: Sequence[Tensor]
) -> Iterator[tuple[TestStage, Tensor, Tensor]]:
    """Pair boxes and class probabilities for every test stage.

    Parameters
    ----------
    test_stages : sequence of TestStage
        What to pair.
    boxes : sequence of T tensors, float [R, 4 or 4 * classes]
        Output of every regressor; row n descends from proposal n in all of them.
    logits : sequence of T tensors, float [R, classes + 1]
        Output of every classifier on its own stage's RoIs, background last.
    last_logits : sequence of T tensors, float [R, classes + 1]
        Output of every classifier on the last stage's RoIs.

    Yields
    ------
    TestStage, boxes, probabilities [R, classes + 1]
    """
    for test_stage in test_stages:
        chosen = [logits[classifier - 1] for classifier in test_stage.classifiers]
        if test_stage.rule == "logits":
            scores = torch.stack(chosen).mean(0).softmax(-1)
        elif test_stage.rule == "last_rois":
            on_last = [last_logits[classifier - 1] for classifier in test_stage.classifiers]
            scores = torch.stack([given.softmax(-1) for given in on_last]).mean(0)
        else:
            scores = torch.stack([given.softmax(-1) for given in chosen]).mean(0)
        yield test_stage, boxes[test_stage.boxes - 1], scores
