"""Test stages of a cascade: which regressor's boxes with which classifiers' scores.

A test stage (i, j) takes the boxes of regressor i and the scores of classifier j, row by row of one proposal list
(Decoupled R-CNN, Table X). Every test stage of a model comes from one pass over the images.
"""

import re
from dataclasses import dataclass
from typing import Literal, Self

ScoreRule = Literal["single", "probabilities", "logits", "last_rois"]
_RULES: dict[str, ScoreRule] = {
    "": "single",
    "probabilities": "probabilities",
    "logits": "logits",
    "last RoIs": "last_rois",
}


@dataclass(frozen=True)
class TestStage:
    """One way to read detections off a cascade."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    boxes: int
    """Regressor whose boxes are used, from 1."""
    classifiers: tuple[int, ...]
    """Classifiers whose scores are used, from 1."""
    rule: ScoreRule = "single"
    """``single`` (one classifier, on its own RoIs), or for several classifiers the mean of their ``probabilities`` or
    ``logits``, each on its own stage's RoIs, or ``last_rois``: the mean of the probabilities that all of them give on
    the RoIs of the last stage (the ensemble of the Cascade R-CNN paper)."""

    @property
    def label(self) -> str:
        """The name in every file and table, e.g. ``(3,3)`` or ``(3,1-3) probabilities``."""
        if self.rule == "single":
            return f"({self.boxes},{self.classifiers[0]})"
        rule = "last RoIs" if self.rule == "last_rois" else self.rule
        return f"({self.boxes},{self.classifiers[0]}-{self.classifiers[-1]}) {rule}"

    @classmethod
    def parse(cls, label: str) -> Self:
        """Read a label; raises ValueError if it is none."""
        match = re.fullmatch(r"\(([1-9]),([1-9])(?:-([1-9]))?\)(?: (probabilities|logits|last RoIs))?", label)
        if not match or bool(match[3]) != bool(match[4]):
            raise ValueError(f"{label!r} is no test stage, such as (3,3) or (3,1-3) probabilities")
        first, last = int(match[2]), int(match[3] or match[2])
        return cls(int(match[1]), tuple(range(first, last + 1)), _RULES[match[4] or ""])


def all_test_stages(regressors: int, classifiers: int) -> list[TestStage]:
    """All test stages of a detector with so many regressors in a row and so many classifiers.

    The pairs (i, j) with j <= i, or every j where there is one regressor; and with several classifiers the last boxes
    with the mean over all of them by each rule. ``last RoIs`` is left out where every classifier reads the same RoIs
    anyway. One regressor and one classifier: (1, 1) alone.
    """
    pairs = [
        TestStage(box, (classifier,))
        for box in range(1, regressors + 1)
        for classifier in range(1, classifiers + 1)
        if classifier <= box or regressors == 1
    ]
    if classifiers == 1:
        return pairs
    every = tuple(range(1, classifiers + 1))
    rules: tuple[ScoreRule, ...] = ("probabilities", "logits", "last_rois")
    return pairs + [TestStage(regressors, every, rule) for rule in rules if rule != "last_rois" or regressors > 1]
