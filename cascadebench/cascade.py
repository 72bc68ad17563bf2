"""The numbers that make a cascade: thresholds, target deviations and loss weights of its stages.

Source: Cai and Vasconcelos, Cascade R-CNN, TPAMI 2019, Sections 4.2 and 6.1.3, and Table 3 for the stage losses.
"""


def stage_iou_thresholds(first: float, stages: int) -> list[float]:
    """IoU at or above which a RoI of each stage is positive: 0.1 more per stage."""
    return [round(first + 0.1 * stage, 10) for stage in range(stages)]


def stage_target_stds(first: tuple[float, ...], stages: int) -> list[tuple[float, ...]]:
    """Standard deviations that divide each stage's regression targets: the first stage's over 1, 2, 3, ..."""
    return [tuple(std / (stage + 1) for std in first) for stage in range(stages)]


def stage_weights(rule: str, stages: int) -> list[float]:
    """Share of each stage's loss in the trunk's gradient: ``decay`` 1/2^(t-1) or ``avg`` 1/T."""
    return {"decay": [0.5**stage for stage in range(stages)], "avg": [1 / stages] * stages}[rule]
