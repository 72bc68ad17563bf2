"""FSCascade: a cascade whose later stages borrow the layers of the stages before."""

from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from adapters.mmdet.stages import ControlledRoIHeads
from adapters.variants.cascade_rcnn import mmdet as cascade_rcnn
from adapters.variants.fscascade.feature_sharing import FeatureSharing, borrowed_gradients
from cascadebench.study.run import Run


@MODELS.register_module()
class FeatureSharingRoIHeads(ControlledRoIHeads):
    """A cascade in which the layers of several heads run on one stage's RoIs.

    Parameters
    ----------
    sharing : dict
        Arguments of :class:`adapters.variants.fscascade.feature_sharing.FeatureSharing`.
    """

    def __init__(self, sharing: dict[str, Any], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.sharing = FeatureSharing(**sharing)

    def stage_forward(self, stage: int, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layers of all heads that the stage needs; its own classifier and regressor read what is merged."""
        classification, regression = self.sharing(
            stage, pooled, lambda head, rois: self.bbox_head[head].features(rois)[0]
        )
        head = self.bbox_head[stage]
        return head.fc_cls(classification), head.fc_reg(regression)


def configure(config: dict[str, Any], run: Run) -> None:
    """Build the cascade, then let its stages share."""
    cascade_rcnn.configure(config, run)
    options = run.variant.options
    chosen = {name: options[name] for name in ("cfs", "lfs", "merge", "share_gradient", "embed")}
    sharing = {"stages": run.variant.stages, "width": run.protocol.heads.width} | chosen
    sharing["borrowed_gradient"] = borrowed_gradients(run)
    config["roi_head"] |= {"type": "FeatureSharingRoIHeads", "sharing": sharing}
