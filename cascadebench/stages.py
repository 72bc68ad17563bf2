"""What each stage of a detector is trained with: threshold, target deviations, weights.

Sources: Cai and Vasconcelos, Cascade R-CNN, TPAMI 2019, Sections 4.2 and 6.1.3, Table 3 (stage losses) and Table 4 (the
fourth threshold); Wang et al., Decoupled R-CNN, Equation 8 (lambda).
"""

from dataclasses import dataclass

from cascadebench.run import Run

IOU_STEPS = (0.0, 0.1, 0.2, 0.25)
"""What rising thresholds of the stages add to the first one: 0.5, 0.6, 0.7, 0.75."""


@dataclass(frozen=True)
class StageSettings:
    """One stage as it is trained.

    Attributes
    ----------
    iou_threshold : float
        A RoI at or above this IoU is positive.
    target_stds : tuple of four floats
        Standard deviations that divide the regression targets.
    classification_weight, regression_weight : float or None
        Factor on the stage's loss, so on the gradient of its head and of the trunk alike; None: the stage has no
        classifier, or no regressor.
    trunk_gradient : float
        Further factor on the gradient that leaves the head for neck and backbone.
    class_agnostic : bool or None
        One regressor for all classes, or one per class; None: no regressor.
    """

    iou_threshold: float
    target_stds: tuple[float, float, float, float]
    classification_weight: float | None
    regression_weight: float | None
    trunk_gradient: float
    class_agnostic: bool | None

    @property
    def has_classifier(self) -> bool:
        """Whether the stage classifies."""
        return self.classification_weight is not None

    @property
    def has_regressor(self) -> bool:
        """Whether the stage regresses."""
        return self.regression_weight is not None


def stage_settings(run: Run) -> list[StageSettings]:
    """Settings of every head that a run trains, from its protocol and the options of its variant.

    Options that mean the same in every variant: ``iou_threshold`` (of the first stage), ``iou_thresholds``
    (rising, constant), ``target_statistics`` (updated, constant), ``stage_loss`` (decay, avg: shares of the trunk's
    gradient), ``lambda`` and ``stage_weights`` (equal, halved: factors on the regression losses), ``regression``
    (class_agnostic, or class_specific in the first stage). A variant without an option has its first value, and the
    whole gradient reaches the trunk without ``stage_loss``.
    """
    variant, heads = run.variant, run.protocol.heads
    first_iou = variant.options.get("iou_threshold") or heads.iou_threshold
    rising = variant.options.get("iou_thresholds", "rising") == "rising"
    updated = variant.options.get("target_statistics", "updated") == "updated"
    trunk = trunk_gradients(variant.options.get("stage_loss"), variant.heads)
    specific = variant.options.get("regression") == "class_specific"
    found = []
    for stage in range(variant.heads):
        regresses = stage < variant.stages
        found.append(
            StageSettings(
                iou_threshold=round(first_iou + IOU_STEPS[stage], 10) if rising else first_iou,
                target_stds=tuple(std / (stage + 1) if updated else std for std in heads.target_stds),
                classification_weight=1.0 if stage < variant.classifiers else None,
                regression_weight=_regression_weight(run, stage) if regresses else None,
                trunk_gradient=trunk[stage],
                class_agnostic=not (specific and stage == 0) if regresses else None,
            )
        )
    return found


def mask_stages(run: Run) -> list[int]:
    """Stages, from 1, with a mask branch: ``mask_on`` (first, last, every) says which; none in a detector of boxes."""
    stages = list(range(1, run.variant.stages + 1))
    if not run.variant.masks:
        return []
    return {"first": stages[:1], "last": stages[-1:], "every": stages}[run.variant.options.get("mask_on", "last")]


def trunk_gradients(rule: str | None, stages: int) -> list[float]:
    """Share of each stage's gradient that reaches the trunk: ``decay`` 1/2^(t-1), ``avg`` 1/T, None: all of it."""
    if rule is None:
        return [1.0] * stages
    return {"decay": [0.5**stage for stage in range(stages)], "avg": [1 / stages] * stages}[rule]


def _regression_weight(run: Run, stage: int) -> float:
    """Factor on a stage's regression loss: lambda, 0.5 for a cascade and 1 for one stage unless given; and halving."""
    options = run.variant.options
    if "lambda" not in options:
        return 1.0
    given = options["lambda"]
    balance = given if given is not None else (0.5 if run.variant.stages > 1 else 1.0)
    return balance * (0.5**stage if options.get("stage_weights") == "halved" else 1.0)
