"""FSCascade: a cascade whose later stages run the layers of the stages before on their own RoIs, too."""

from typing import Any

import torch
from detectron2.config import LazyCall
from omegaconf import DictConfig
from torch import Tensor

from adapters.detectron2.stages import ControlledROIHeads
from adapters.detectron2.variants import cascade_rcnn
from adapters.feature_sharing import FeatureSharing
from cascadebench.initial_weights import initial_tensor
from cascadebench.run import Run


class FeatureSharingROIHeads(ControlledROIHeads):
    """A cascade whose classifiers and regressors read what `sharing` makes of several heads' features."""

    def __init__(self, *, sharing: FeatureSharing, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.sharing = sharing
        self._start_as_a_cascade()

    @torch.no_grad()
    def _start_as_a_cascade(self) -> None:
        """Fill what is added with the numbers that it starts from under any rules; they do not depend on the seed."""
        for kind, maps in (("embedding", self.sharing.embeddings), ("reduction", self.sharing.reductions)):
            for stage, layer in maps.items():
                start = initial_tensor(f"heads.{stage}.{kind}.weight", tuple(layer.weight.shape), seed=0)
                layer.weight.copy_(torch.from_numpy(start))

    def stage_forward(self, stage: int, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layers of the heads that the stage needs, and merge."""
        features = [self.box_head[head](pooled) for head in self.sharing.heads_needed(stage)]
        return self.box_predictor[stage](self.sharing(features))


def configure(node: DictConfig, run: Run) -> None:
    """Build Cascade R-CNN, and share between its stages."""
    cascade_rcnn.configure(node, run)
    options = run.variant.options
    node.roi_heads["_target_"] = FeatureSharingROIHeads
    node.roi_heads.sharing = LazyCall(FeatureSharing)(
        stages=run.variant.stages,
        width=run.protocol.heads.width,
        **{name: options[name] for name in ("cfs", "lfs", "merge", "share_gradient", "embed")},
    )
