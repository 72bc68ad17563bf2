"""From what the stages gave of one image to what the diagnostics of a prediction read; the same in every framework."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from adapters.prediction.score_rules import StageOutputs, one_box_each
from cascadebench.diagnostics.observations import Candidates, ImageObservation, StagePrediction


def image_observation(
    image_id: int,
    objectness: Tensor,
    outputs: StageOutputs,
    on_original: Callable[[Tensor], Tensor],
    candidates: tuple[Tensor, Tensor, Tensor] | None,
) -> ImageObservation:
    """Gather what one pass over an image gave, as arrays.

    Parameters
    ----------
    objectness : Tensor, float32 [R]
        Of the proposals, which are the RoIs of the first stage.
    outputs : StageOutputs
        With RoIs.
    on_original : callable
        From boxes [N, 4] in pixels of the resized image to the same boxes in the original one, row by row.
    candidates : (boxes [N, 4], scores [N], levels [N]) or None
        Of the RPN before its NMS, in pixels of the resized image.
    """
    stages = []
    for number in range(max(len(outputs.boxes), len(outputs.logits))):
        boxes, logits = (part[number] if number < len(part) else None for part in (outputs.boxes, outputs.logits))
        # Classifiers beyond the regressors read the RoIs of the last one.
        rois = outputs.rois[min(number, len(outputs.rois) - 1)]
        stages.append(
            StagePrediction(
                _array(on_original(rois)),
                None if boxes is None else _array(on_original(one_box_each(boxes, logits))),
                None if logits is None else _array(logits.softmax(-1)),
            )
        )
    kept = None
    if candidates is not None:
        boxes, scores, levels = candidates
        kept = Candidates(_array(on_original(boxes)), _array(scores), levels.cpu().numpy())
    return ImageObservation(image_id, stages[0].rois, _array(objectness), tuple(stages), kept)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
