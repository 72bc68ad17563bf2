"""Integral loss: classifiers at several IoU thresholds over the layers of one head, and one regressor."""

from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from adapters.mmdet.config import box_head_config, classification_loss_config, set_stages
from adapters.mmdet.stages import ControlledRoIHeads
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


@MODELS.register_module()
class IntegralLossRoIHeads(ControlledRoIHeads):
    """One stage whose further heads are nothing but classifiers of the first head's feature."""

    def stage_outputs(self, stage: int, pooled: Tensor) -> tuple[list[Tensor], Tensor]:
        """Logits of all classifiers, and deltas; the layers run once."""
        classification, regression = self.bbox_head[0].features(pooled)
        return [head.fc_cls(classification) for head in self.bbox_head], self.bbox_head[0].fc_reg(regression)


def configure(config: dict[str, Any], run: Run) -> None:
    """Add the further classifiers."""
    first, *further = stage_settings(run)
    box_heads = [box_head_config(run, first)]
    for stage in further:
        box_heads.append(
            {
                "type": "BBoxHead",
                "with_reg": False,
                "in_channels": run.protocol.heads.width,
                "roi_feat_size": 1,
                "num_classes": len(run.dataset.categories),
                "loss_cls": classification_loss_config(stage),
            }
        )
    set_stages(config, run, [first, *further], box_heads)
    config["roi_head"]["type"] = "IntegralLossRoIHeads"
