"""From what the heads of a cascade gave to boxes and scores of every test stage; the same rules in every framework."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cascadebench.detectors.inference_stages import TestStage, all_test_stages


@dataclass(frozen=True)
class StageOutputs:
    """What a detector's stages give for R proposals of one image, row by row.

    Attributes
    ----------
    boxes : list of tensors, float32 [R, 4 or 4 * classes]
        One per regressor, decoded and clipped, in pixels of the resized image.
    logits : list of tensors, float32 [R, classes + 1]
        One per classifier, each on its own stage's RoIs, background last.
    last_logits : list of tensors, float32 [R, classes + 1]
        One per classifier, each on the last stage's RoIs; empty if no test stage asks for them.
    rois : list of tensors, float32 [R, 4]
        What entered each regressor, in pixels of the resized image.
    pooled : list of tensors, float32 [R, channels, size, size]
        The same, pooled.
    """

    boxes: list[Tensor]
    logits: list[Tensor]
    last_logits: list[Tensor]
    rois: list[Tensor] = field(default_factory=list)
    pooled: list[Tensor] = field(default_factory=list)


def one_box_each(boxes: Tensor, logits: Tensor | None) -> Tensor:
    """Choose the box of the class, background apart, that scores highest.

    Parameters
    ----------
    boxes : Tensor, float32 [R, 4 or 4 * classes]
        With one box for all classes there is nothing to choose.
    logits : Tensor, float32 [R, classes + 1], or None
        Of the same RoIs; None where there is nothing to choose.

    Returns
    -------
    Tensor, float32 [R, 4]
    """
    return boxes if boxes.shape[1] == 4 else boxes_of_classes(boxes, logits[:, :-1].argmax(1))


def boxes_of_classes(boxes: Tensor, classes: Tensor) -> Tensor:
    """Of boxes [R, 4 * classes] those of one class each, int64 [R]: float32 [R, 4]."""
    return boxes.reshape(len(boxes), boxes.shape[1] // 4, 4)[torch.arange(len(boxes), device=boxes.device), classes]


def asks_for_last_rois(test_stages: Sequence[TestStage]) -> bool:
    """Whether the classifiers must also run on the RoIs of the last stage."""
    return any(test_stage.rule == "last_rois" for test_stage in test_stages)


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
    own, last = ([given.softmax(-1) for given in logits] for logits in (outputs.logits, outputs.last_logits))
    for test_stage in test_stages:
        places = [classifier - 1 for classifier in test_stage.classifiers]
        if test_stage.rule == "logits":
            scores = torch.stack([outputs.logits[place] for place in places]).mean(0).softmax(-1)
        else:
            chosen = [(last if test_stage.rule == "last_rois" else own)[place] for place in places]
            scores = chosen[0] if len(chosen) == 1 else torch.stack(chosen).mean(0)
        yield test_stage, outputs.boxes[test_stage.boxes - 1], scores


def effective_score_rule(stages: int, classifiers: int, headline: str) -> str:
    """Probe which boxes and scores the test stage called `headline` really takes.

    Fixed outputs go through :func:`boxes_and_scores`; what comes out is compared with every test stage's own formula,
    written out again here.

    Returns
    -------
    str
        Label of the test stage whose formula gives the same, or ``none of them``.
    """
    random = torch.Generator().manual_seed(0)
    counts = (stages, classifiers, classifiers)
    drawn = [[3 * torch.randn(5, 4, generator=random) for _ in range(count)] for count in counts]
    outputs = StageOutputs(*drawn)
    test_stages = all_test_stages(stages, classifiers)
    given = {stage.label: (boxes, scores) for stage, boxes, scores in boxes_and_scores(test_stages, outputs)}
    boxes, scores = given[headline]
    for stage in test_stages:
        own, last = ([part[number - 1].exp() for number in stage.classifiers] for part in drawn[1:])
        share = {
            "single": own[0],
            "probabilities": sum(one / one.sum(1, keepdim=True) for one in own),
            "logits": torch.stack(own).log().mean(0).exp(),
            "last_rois": sum(one / one.sum(1, keepdim=True) for one in last),
        }[stage.rule]
        expected = share / share.sum(1, keepdim=True)
        if torch.equal(boxes, drawn[0][stage.boxes - 1]) and torch.allclose(scores, expected, atol=1e-6):
            return stage.label
    return "none of them"
