"""FSCascade: a cascade whose later stages run the layers of the stages before on their own RoIs, too."""

from typing import Any

from detectron2.config import LazyCall
from omegaconf import DictConfig
from torch import Tensor

from adapters.detectron2.stages import ControlledRoIHeads
from adapters.variants.cascade_rcnn import detectron2 as cascade_rcnn
from adapters.variants.fscascade.feature_sharing import FeatureSharing, borrowed_gradients
from cascadebench.study.run import Run


class FeatureSharingRoIHeads(ControlledRoIHeads):
    """A cascade whose classifiers and regressors read what `sharing` makes of several heads' features."""

    def __init__(self, *, sharing: FeatureSharing, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.sharing = sharing

    def stage_forward(self, stage: int, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layers of the heads that the stage needs, and merge."""
        return self.box_predictor[stage](self.sharing(stage, pooled, lambda head, rois: self.box_head[head](rois)))


def configure(config: DictConfig, run: Run) -> None:
    """Build Cascade R-CNN, and share between its stages."""
    cascade_rcnn.configure(config, run)
    options = run.variant.options
    config.roi_heads["_target_"] = FeatureSharingRoIHeads
    config.roi_heads.sharing = LazyCall(FeatureSharing)(
        stages=run.variant.stages,
        width=run.protocol.heads.width,
        borrowed_gradient=borrowed_gradients(run),
        **{name: options[name] for name in ("cfs", "lfs", "merge", "share_gradient", "embed")},
    )
