"""One inference of an MMDetection detector as parts that fvcore can trace."""

from torch import Tensor, nn

from adapters.inspection.cost import TracedPart, traced_parts
from adapters.prediction.score_rules import StageOutputs
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.study.run import Run


def trace_parts(model: nn.Module, run: Run, width: int, height: int, rois: int) -> list[TracedPart]:
    """Return the parts and their inputs."""
    headline = TestStage.parse(run.variant.headline)

    def dense(image: Tensor) -> list[Tensor]:
        scores, deltas = model.rpn_head(model.extract_feat(image))
        return [*scores, *deltas]

    def stages(boxes: Tensor, *features: Tensor) -> StageOutputs:
        return model.roi_head.run_stages(features, boxes, (height, width), [headline])

    def masks(boxes: Tensor, *features: Tensor) -> list[Tensor]:
        return model.roi_head.mask_logits(features, boxes)

    return traced_parts(model, run, (width, height), rois, dense, stages, masks)
