"""What each stage of a detector is trained with: threshold, target deviations, weights.

Sources: Cai and Vasconcelos, Cascade R-CNN, TPAMI 2019, Sections 4.2 and 6.1.3, Table 3 (stage losses) and Table 4 (the
fourth threshold); Wang et al., Decoupled R-CNN, Equation 8 (lambda).
"""

from dataclasses import dataclass

from cascadebench.study.run import Run

IOU_STEPS = (0.0, 0.1, 0.2, 0.25)
"""What rising thresholds of the stages add to the first one: 0.5, 0.6, 0.7, 0.75."""


@dataclass(frozen=True)
class StageSettings:
    """One stage as it is trained, from the run's protocol and the options of its variant.

    Options that mean the same in every variant: ``iou_threshold`` (of the first stage), ``iou_thresholds``
    (rising, constant), ``target_statistics`` (updated, constant), ``stage_loss`` (decay, avg: shares of the trunk's
    gradient), ``lambda`` and ``stage_weights`` (equal, halved: factors on the regression losses), ``regression``
    (class_agnostic, or class_specific in the first stage), ``later_ground_truth`` (regressed, dropped_and_added: what a
    later stage trains on of the ground truth that the stage before trained on), ``moved_by`` (predicted_class,
    ground_truth_class: whose box a positive of a regressor per class passes on). A variant without an option has its
    first value, and the whole gradient reaches the trunk without ``stage_loss``.
    """

    run: Run
    number: int
    """From 0."""

    @property
    def has_classifier(self) -> bool:
        """Whether the stage classifies."""
        return self.number < self.run.variant.classifiers

    @property
    def has_regressor(self) -> bool:
        """Whether the stage regresses."""
        return self.number < self.run.variant.stages

    @property
    def iou_threshold(self) -> float:
        """A RoI at or above this IoU is positive."""
        options = self.run.variant.options
        first = options.get("iou_threshold") or self.run.protocol.heads.iou_threshold
        rises = options.get("iou_thresholds", "rising") == "rising"
        return round(first + IOU_STEPS[self.number], 10) if rises else first

    @property
    def target_stds(self) -> tuple[float, ...]:
        """Four standard deviations, which divide the regression targets."""
        updated = self.run.variant.options.get("target_statistics", "updated") == "updated"
        return tuple(std / (self.number + 1) if updated else std for std in self.run.protocol.heads.target_stds)

    @property
    def class_agnostic(self) -> bool:
        """Whether the regressor has one box for all classes, not one per class."""
        return self.number > 0 or self.run.variant.options.get("regression") != "class_specific"

    @property
    def adds_ground_truth(self) -> bool:
        """Whether ground truth joins what enters a later stage, in place of its copies that were regressed."""
        return self.number > 0 and self.run.variant.options.get("later_ground_truth") == "dropped_and_added"

    @property
    def classification_weight(self) -> float | None:
        """Factor on the classification loss, in the head and below it alike; None: no classifier."""
        return 1.0 if self.has_classifier else None

    @property
    def regression_weight(self) -> float | None:
        """Factor on the regression loss, in the head and below it alike; None: no regressor.

        It is lambda, which is 0.5 with several stages and 1 with one unless it is given, times the stage's weight.
        """
        if not self.has_regressor:
            return None
        options = self.run.variant.options
        if "lambda" not in options:
            return 1.0
        given = options["lambda"]
        balance = given if given is not None else (0.5 if self.run.variant.stages > 1 else 1.0)
        return balance * (0.5**self.number if options.get("stage_weights") == "halved" else 1.0)

    @property
    def trunk_gradient(self) -> float:
        """Further factor on the gradient that leaves the head for neck and backbone: 1/2^(t-1), 1/T or 1."""
        rule = self.run.variant.options.get("stage_loss")
        if rule is None:
            return 1.0
        return 0.5**self.number if rule == "decay" else 1 / self.run.variant.heads


def stage_settings(run: Run) -> list[StageSettings]:
    """Every head that a run trains: one for each regressor in a row and each classifier."""
    return [StageSettings(run, number) for number in range(run.variant.heads)]


def mask_stages(run: Run) -> list[int]:
    """Stages, from 1, with a mask branch: ``mask_on`` (first, last, every) says which; none in a detector of boxes."""
    stages = list(range(1, run.variant.stages + 1))
    if not run.variant.masks:
        return []
    return {"first": stages[:1], "last": stages[-1:], "every": stages}[run.variant.options.get("mask_on", "last")]
