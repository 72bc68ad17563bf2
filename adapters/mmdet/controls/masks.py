"""Controls of the mask branches."""

from collections.abc import Iterator
from contextlib import ExitStack

import torch

from adapters.inspection.probe_inputs import probe_boxes, probe_features, probe_ground_truth
from adapters.mmdet.controls.control_rows import Row
from adapters.mmdet.controls.head_probes import train_heads
from adapters.mmdet.mask_heads import MaskRoIHeads
from adapters.mmdet.stages import ControlledRoIHeads
from adapters.training.assembly import Built


def mask_rows(built: Built) -> Iterator[Row]:
    """Branches, pooling, loss and RoIs."""
    roi_head, channels = built.model.roi_head, built.model.neck.out_channels
    stages = branches(roi_head)
    yield "masks.stages", stages, "roi_head.mask_head"
    size = roi_head.mask_roi_extractor.roi_layers[0].output_size[0] if stages else None
    yield "masks.pool_size", size, "roi_head.mask_roi_extractor.roi_layers[0].output_size"
    weights = [float(roi_head.stage_loss_weights[stage - 1] * roi_head.mask_loss_weight) for stage in stages]
    yield "masks.loss_weight", weights, "roi_head.stage_loss_weights[t] * mask_loss_weight"
    shares = [trunk_gradient(roi_head, channels, stage) for stage in stages]
    yield "masks.trunk_gradient", shares, "probe: gradient at the pyramid over that without scaling"
    yield "masks.rois_entering", rois_entering(roi_head, channels), "probe: roi_head.loss(), hooks on its mask_head[t]"


def branches(roi_head: ControlledRoIHeads) -> list[int]:
    """Stages, from 1, with a mask branch."""
    return [int(stage) for stage in roi_head.mask_head] if isinstance(roi_head, MaskRoIHeads) else []


def trunk_gradient(roi_head: MaskRoIHeads, channels: int, stage: int) -> float:
    """Probe the share of a branch's gradient that reaches the trunk."""
    features = tuple(level.requires_grad_() for level in probe_features(channels, 1))
    boxes = probe_boxes(8)
    rois = torch.cat([boxes.new_zeros(8, 1), boxes], dim=1)
    extractor = roi_head.mask_roi_extractor
    pooled = roi_head.mask_features(stage, features, rois), extractor(features[: extractor.num_inputs], rois)
    norms = [torch.autograd.grad(one.square().sum(), features[0])[0].double().norm() for one in pooled]
    return round(float(norms[0] / norms[1]), 6)


@torch.no_grad()
def rois_entering(roi_head: ControlledRoIHeads, channels: int) -> list[int]:
    """Count the RoIs that train each branch on the batch that the heads' samples are counted on."""
    found: dict[int, int] = {}
    with ExitStack() as hooks:
        for stage in branches(roi_head):
            head = roi_head.mask_head[str(stage)]
            hook = head.register_forward_hook(lambda *given, stage=stage: found.update({stage: len(given[2])}))
            hooks.callback(hook.remove)
        if branches(roi_head):
            proposals = probe_boxes()[: roi_head.bbox_sampler[0].num // 2]
            train_heads(roi_head, probe_features(channels), proposals, *probe_ground_truth())
    return list(found.values())
