"""How the stages of a cascade run at test, in plain torch; the same in every framework."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from adapters.prediction.score_rules import StageOutputs, asks_for_last_rois, one_box_each
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.diagnostics.observations import QualityStage, quality_stages


def scaled_gradient(features: Tensor, factor: float) -> Tensor:
    """Return the same features, whose gradient is multiplied by a factor before it flows on."""
    if features.requires_grad and factor != 1:
        features.register_hook(lambda gradient: gradient * factor)
    return features


class CascadeStages:
    """Stages in a row at test; a framework's RoI heads are this, and give what is not implemented here.

    Attributes
    ----------
    applications : int
        How often the row of regressors is run through at test.
    mask_test_stage : str or None
        Label of the test stage whose detections get masks by ``mask_probabilities``; None: there are no masks.
    """

    applications: int = 1
    mask_test_stage: str | None = None

    @property
    def tasks(self) -> list[tuple[bool, bool]]:
        """Of every head whether it classifies and whether it regresses."""
        raise NotImplementedError

    def pooled_alone(self, stage: int, features: Any, boxes: Tensor) -> Tensor:
        """Pool boxes [R, 4] of one image for a stage, from 0: float32 [R, channels, size, size]."""
        raise NotImplementedError

    def stage_forward(self, stage: int, pooled: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What the layers of a stage make of pooled RoIs; a variant with other layers replaces it.

        Parameters
        ----------
        stage : int
            From 0.
        pooled : Tensor, float32 [R, channels, size, size]
            The stage's own RoIs.

        Returns
        -------
        logits : Tensor, float32 [R, classes + 1], or None
            Background last; None: the stage does not classify.
        deltas : Tensor, float32 [R, 4 or 4 * classes], or None
            None: the stage does not regress.
        """
        raise NotImplementedError

    def decoded(self, stage: int, boxes: Tensor, deltas: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes [R, 4] of one image as a stage's regressor moves them, clipped: float32 [R, 4 or 4 * classes]."""
        raise NotImplementedError

    def held(self, levels: Sequence[Tensor]) -> Any:
        """Levels of the pyramid, finest first, as the framework holds them."""
        raise NotImplementedError

    def mask_logits(self, features: Any, boxes: Tensor) -> list[Tensor]:
        """What every mask branch gives for boxes [R, 4] of one image: float32 [R, classes, 28, 28] each."""
        raise NotImplementedError

    def mask_probabilities(self, features: Any, boxes: Tensor, labels: Tensor) -> Tensor:
        """Mean of the branches' probabilities for the classes of detections, float32 [N, 28, 28]."""
        raise NotImplementedError

    @property
    def test_row(self) -> list[int]:
        """Heads, from 0, in the order in which test runs their regressors."""
        return [head for head, (_, regresses) in enumerate(self.tasks) if regresses] * self.applications

    @property
    def regressors(self) -> int:
        """Regressors in a row at test."""
        return len(self.test_row)

    @property
    def classifiers(self) -> int:
        """Classifiers at test."""
        return sum(classifies for classifies, _ in self.tasks) * self.applications

    def stage_outputs(self, stage: int, pooled: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Logits of every classifier of a stage's RoIs, and deltas; a variant with several classifiers replaces it."""
        logits, deltas = self.stage_forward(stage, pooled)
        return [] if logits is None else [logits], deltas

    def run_stages(
        self, features: Any, proposals: Tensor, size: tuple[int, int], test_stages: Sequence[TestStage]
    ) -> StageOutputs:
        """Run every stage on one image; nothing is filtered between stages, so that row n is proposal n throughout.

        Parameters
        ----------
        features
            Levels of the pyramid, float32 [1, channels, h, w] each, as the framework holds them.
        proposals : Tensor, float32 [R, 4]
            In pixels of the resized image.
        size : tuple of int
            Height and width of the resized image without padding.
        test_stages : sequence of TestStage
            What will be read off the outputs; the classifiers run on the last stage's RoIs only if one needs it.
        """
        outputs, row = StageOutputs([], [], []), self.test_row
        entering = proposals
        for stage in row:
            pooled = self.pooled_alone(stage, features, entering)
            outputs.rois.append(entering)
            outputs.pooled.append(pooled)
            logits, deltas = self.stage_outputs(stage, pooled)
            outputs.logits.extend(logits)
            outputs.boxes.append(self.decoded(stage, entering, deltas, size))
            entering = one_box_each(outputs.boxes[-1], logits[0] if logits else None)
        if asks_for_last_rois(test_stages):
            # Classifiers beyond the last stage's own have seen these RoIs already.
            earlier = row[: len(outputs.logits)][: len(row) - 1]
            outputs.last_logits.extend(self.stage_forward(stage, pooled)[0] for stage in earlier)
            outputs.last_logits.extend(outputs.logits[len(earlier) :])
        return outputs

    def quality(self, outputs: StageOutputs, size: tuple[int, int]) -> Iterator[tuple[QualityStage, Tensor, Tensor]]:
        """Run every whole head on the RoIs of every stage of one image; there is nothing to run with one stage.

        Parameters
        ----------
        outputs : StageOutputs
            Of :meth:`run_stages`; what it has already is not computed again.
        size : tuple of int
            Height and width of the resized image.

        Yields
        ------
        QualityStage, boxes [R, 4 or 4 * classes], probabilities [R, classes + 1]
        """
        row, whole = self.test_row, sum(all(both) for both in self.tasks)
        for cell in quality_stages(whole, len(row)) if len(row) > 1 else ():
            head, number = cell.head - 1, cell.stage - 1
            if head == row[number]:
                boxes, logits = outputs.boxes[number], outputs.logits[number]
            else:
                logits, deltas = self.stage_forward(head, outputs.pooled[number])
                boxes = self.decoded(head, outputs.rois[number], deltas, size)
            yield cell, boxes, logits.softmax(-1)
