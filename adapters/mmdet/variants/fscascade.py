"""FSCascade: a cascade whose later stages borrow the layers of the stages before."""

from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor

from adapters.feature_sharing import FeatureSharing
from adapters.mmdet.stages import ControlledCascadeRoIHead
from adapters.mmdet.variants import cascade_rcnn
from cascadebench.initial_weights import initial_tensor
from cascadebench.run import Run


@MODELS.register_module()
class FeatureSharingRoIHead(ControlledCascadeRoIHead):
    """A cascade in which the layers of several heads run on one stage's RoIs.

    Parameters
    ----------
    sharing : dict
        Arguments of :class:`adapters.feature_sharing.FeatureSharing`.
    """

    def __init__(self, sharing: dict[str, Any], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.sharing = FeatureSharing(**sharing)

    def stage_forward(self, stage: int, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layers of all heads that the stage needs; its own classifier and regressor read what is merged."""
        features = [self.bbox_head[head].features(pooled)[0] for head in self.sharing.heads_needed(stage)]
        classification, regression = self.sharing(features)
        head = self.bbox_head[stage]
        return head.fc_cls(classification), head.fc_reg(regression)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Let MMDetection draw the weights that it knows; embeddings and reductions start as they always do."""
        super().init_weights()
        for kind, maps in (("embedding", self.sharing.embeddings), ("reduction", self.sharing.reductions)):
            for stage, layer in maps.items():
                start = initial_tensor(f"heads.{stage}.{kind}.weight", tuple(layer.weight.shape), 0)
                layer.weight.copy_(torch.from_numpy(start))


def configure(config: dict[str, Any], run: Run) -> None:
    """Build the cascade, then let its stages share."""
    cascade_rcnn.configure(config, run)
    options = run.variant.options
    chosen = {name: options[name] for name in ("cfs", "lfs", "merge", "share_gradient", "embed")}
    sharing = {"stages": run.variant.stages, "width": run.protocol.heads.width} | chosen
    config["roi_head"] |= {"type": "FeatureSharingRoIHead", "sharing": sharing}
