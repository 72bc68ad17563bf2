"""The mask branches: where they are, and how they train."""

from collections.abc import Iterator

import torch

from adapters.inspection.control_rows import Row
from adapters.inspection.head_probes import ProbedHeads, gradient_share
from adapters.inspection.probe_inputs import probe_boxes, probe_features
from adapters.mmdet.controls.head_probes import probed_heads
from adapters.mmdet.mask_heads import MaskRoIHeads
from adapters.mmdet.stages import ControlledRoIHeads
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``masks.*``."""
    heads, probes = built.model.roi_head, probed_heads(built)
    stages = branches(heads)
    yield "masks.stages", stages, "roi_head.mask_head"
    size = heads.mask_roi_extractor.roi_layers[0].output_size[0] if stages else None
    yield "masks.pool_size", size, "roi_head.mask_roi_extractor.roi_layers[0].output_size"
    weights = [float(heads.stage_loss_weights[stage - 1] * heads.mask_loss_weight) for stage in stages]
    yield "masks.loss_weight", weights, "roi_head.stage_loss_weights[t] * mask_loss_weight"
    shares = [trunk_gradient(probes, stage) for stage in stages]
    yield "masks.trunk_gradient", shares, "probe: gradient at the pyramid over that without scaling"
    entering = probes.trained_on([heads.mask_head[str(stage)] for stage in stages])
    yield "masks.rois_entering", entering, "probe: roi_head.loss(), hooks on its mask_head[t]"


def branches(heads: ControlledRoIHeads) -> list[int]:
    """Stages, from 1, with a mask branch."""
    return [int(stage) for stage in heads.mask_head] if isinstance(heads, MaskRoIHeads) else []


def trunk_gradient(probes: ProbedHeads, stage: int) -> float | None:
    """Probe the share of a branch's gradient that reaches the trunk."""
    heads = probes.module
    maps = tuple(level.requires_grad_() for level in probe_features(probes.channels, 1))
    boxes = probe_boxes(8)
    rois, extractor = torch.cat([boxes.new_zeros(8, 1), boxes], dim=1), heads.mask_roi_extractor
    alone = extractor(maps[: extractor.num_inputs], rois)
    return gradient_share(heads.mask_features(stage, maps, rois), alone, maps[0])
