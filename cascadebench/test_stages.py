"""Test stages of a cascade: which regressor's boxes with which classifiers' scores.

A test stage (i, j) takes the boxes of regressor i and the scores of classifier j, row by row of one proposal list
(Decoupled R-CNN, Table X). Every test stage of a model comes from one pass over the images.
"""

from dataclasses import dataclass
from typing import Literal

ScoreRule = Literal["single", "probabilities", "logits", "last_rois"]


@dataclass(frozen=True)
class TestStage:
    """One way to read detections off a cascade.

    Attributes
    ----------
    boxes : int
        Regressor whose boxes are used, from 1.
    classifiers : tuple of int
        Classifiers whose scores are used, from 1.
    rule : str
        ``single`` (one classifier, on its own RoIs), or for several classifiers the mean of their ``probabilities`` or
        ``logits``, each on its own stage's RoIs, or ``last_rois``: the mean of the probabilities that all of them give
        on the RoIs of the last stage (the ensemble of the Cascade R-CNN paper).
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    boxes: int
    classifiers: tuple[int, ...]
    rule: ScoreRule = "single"

    @property
    def label(self) -> str:
        """The name in every file and table, e.g. ``(3,3)`` or ``(3,1-3) probabilities``."""
        if self.rule == "single":
            return f"({self.boxes},{self.classifiers[0]})"
        rule = "last RoIs" if self.rule == "last_rois" else self.rule
        return f"({self.boxes},{self.classifiers[0]}-{self.classifiers[-1]}) {rule}"


def cascade_test_stages(stages: int) -> list[TestStage]:
    """All test stages of a cascade of `stages` heads.

    The pairs (i, j) with j <= i, and the last boxes with the mean over all classifiers by each of the three rules.
    For `stages` = 1 there is one: (1, 1).
    """
    pairs = [TestStage(i, (j,)) for i in range(1, stages + 1) for j in range(1, i + 1)]
    if stages == 1:
        return pairs
    every = tuple(range(1, stages + 1))
    return pairs + [TestStage(stages, every, rule) for rule in ("probabilities", "logits", "last_rois")]
