"""One inference of a Detectron2 detector as parts that fvcore can trace."""

from detectron2.modeling import GeneralizedRCNN
from torch import Tensor

from adapters.inspection.cost import TracedPart, traced_parts
from adapters.prediction.score_rules import StageOutputs
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.study.run import Run


def trace_parts(model: GeneralizedRCNN, run: Run, width: int, height: int, rois: int) -> list[TracedPart]:
    """Return the parts and their inputs."""
    headline, levels = TestStage.parse(run.variant.headline), model.roi_heads.box_in_features

    def dense(image: Tensor) -> list[Tensor]:
        features, generator = model.backbone(image), model.proposal_generator
        logits, deltas = generator.rpn_head([features[name] for name in generator.in_features])
        return [*logits, *deltas]

    def stages(boxes: Tensor, *features: Tensor) -> StageOutputs:
        return model.roi_heads.run_stages(dict(zip(levels, features, strict=True)), boxes, (height, width), [headline])

    def masks(boxes: Tensor, *features: Tensor) -> list[Tensor]:
        return model.roi_heads.mask_logits(dict(zip(levels, features, strict=True)), boxes)

    return traced_parts(model, run, (width, height), rois, dense, stages, masks)
