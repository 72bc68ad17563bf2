"""Box heads: two fully connected layers shared by both tasks, or layers of each task's own, or one task alone."""

from collections.abc import Iterable
from typing import Any

import torch
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from adapters.layers.convolution_branch import ConvolutionBranch
from adapters.prediction.score_rules import one_box_each


@MODELS.register_module()
class StageBoxHead(ConvFCBBoxHead):
    """MMDetection's head without convolutions, whose layers and whose outputs can be asked for one by one.

    Parameters
    ----------
    regression_convolutions : bool
        Residual convolutions in place of fully connected layers before the regressor.
    """

    def __init__(self, regression_convolutions: bool = False, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.regression_convolutions = None
        if regression_convolutions:
            # MMDetection refuses a head without layers, so it was asked for fully connected ones.
            self.reg_fcs = nn.ModuleList()
            self.regression_convolutions = ConvolutionBranch(self.in_channels, self.fc_out_channels)

    def forward(self, pooled: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Logits and deltas, each None where the head has no such output."""
        classification, regression = self.features(pooled)
        return (
            self.fc_cls(classification) if self.with_cls else None,
            self.fc_reg(regression) if self.with_reg else None,
        )

    def features(self, pooled: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What classifier and regressor read, float [R, width], from pooled RoIs [R, channels, size, size]."""
        shared = self._shared(pooled)
        return (
            _through(self.cls_fcs, shared) if self.with_cls else None,
            self._regression(shared) if self.with_reg else None,
        )

    def classify(self, pooled: Tensor) -> Tensor:
        """Run the classification branch alone."""
        return self.fc_cls(_through(self.cls_fcs, self._shared(pooled)))

    def regress(self, pooled: Tensor) -> Tensor:
        """Run the regression branch alone."""
        return self.fc_reg(self._regression(self._shared(pooled)))

    def _shared(self, pooled: Tensor) -> Tensor:
        return _through(self.shared_fcs, pooled) if self.num_shared_fcs else pooled

    def _regression(self, shared: Tensor) -> Tensor:
        if self.regression_convolutions is None:
            return _through(self.reg_fcs, shared)
        if self.training and not len(shared):
            # Batch norm has no statistics of nothing; the parameters still get a gradient, of zero.
            nothing = 0.0 * sum(parameter.sum() for parameter in self.regression_convolutions.parameters())
            return shared.new_zeros(0, self.fc_out_channels) + nothing
        return self.regression_convolutions(shared)


def _through(layers: Iterable[nn.Linear], features: Tensor) -> Tensor:
    """Send flattened features through fully connected layers with ReLU."""
    features = features.flatten(1)
    for layer in layers:
        features = layer(features).relu()
    return features


@MODELS.register_module()
class ControlledBoxHead(StageBoxHead):
    """A head that passes on every box it regressed, but for empty ones.

    Parameters
    ----------
    drops_ground_truth : bool
        Whether a box that began as ground truth is left out, as MMDetection does.
    """

    def __init__(self, drops_ground_truth: bool = False, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.drops_ground_truth = drops_ground_truth

    def refine_bboxes(
        self, sampling_results: list, bbox_results: dict[str, Any], batch_img_metas: list[dict]
    ) -> list[InstanceData]:
        """Regress the RoIs of a training step, image by image."""
        rois, deltas, logits = (bbox_results[name] for name in ("rois", "bbox_pred", "cls_score"))
        refined = []
        for number, meta in enumerate(batch_img_metas):
            own = rois[:, 0] == number
            boxes = self.bbox_coder.decode(rois[own, 1:], deltas[own], max_shape=meta["img_shape"])
            chosen = one_box_each(boxes, None if logits is None else logits[own])
            if self.drops_ground_truth:
                given = sampling_results[number]  # positives come first
                kept = torch.ones(len(chosen), dtype=torch.bool, device=chosen.device)
                kept[: len(given.pos_priors)] = (given.pos_priors != given.pos_gt_bboxes).any(1)
                chosen = chosen[kept]
            refined.append(InstanceData(bboxes=without_empty(chosen)))
        return refined


def without_empty(boxes: Tensor) -> Tensor:
    """Keep the boxes that have an area."""
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
