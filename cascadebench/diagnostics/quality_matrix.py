"""Every head on the RoIs of every stage, as detections of test stages of their own.

The question is that of Cai and Vasconcelos, Cascade R-CNN, TPAMI 2019, Fig. 8: does a head need the RoIs that it was
trained on. Head t on the RoIs of stage s gives boxes and scores together, which no test stage (i, j) does.
"""

import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, order=True)
class QualityStage:
    """A cell of the quality matrix.

    Attributes
    ----------
    head : int
        Head whose classifier and regressor are used, from 1.
    stage : int
        Stage whose entering RoIs it is given, from 1; those of stage 1 are the proposals.
    """

    head: int
    stage: int

    @property
    def label(self) -> str:
        """The test stage's name in ``quality_detections.parquet``: ``head 3 on stage 1``."""
        return f"head {self.head} on stage {self.stage}"

    @classmethod
    def parse(cls, label: str) -> Self:
        """Read a label; raises ValueError if it is none."""
        match = re.fullmatch(r"head ([1-9]) on stage ([1-9])", label)
        if not match:
            raise ValueError(f"{label!r} is no cell of a quality matrix, such as head 3 on stage 1")
        return cls(int(match[1]), int(match[2]))


def quality_stages(heads: int, stages: int) -> list[QualityStage]:
    """All cells of a detector with so many whole heads (classifier and regressor) and stages, head by head."""
    return [QualityStage(head, stage) for head in range(1, heads + 1) for stage in range(1, stages + 1)]
