"""The mask branches: where they are, and how they train."""

from collections.abc import Iterator
from contextlib import ExitStack

import torch
from detectron2.structures import Boxes

from adapters.detectron2.controls.control_rows import Row
from adapters.detectron2.controls.head_probes import trained_batch
from adapters.detectron2.mask_heads import MaskRoIHeads
from adapters.detectron2.stages import ControlledRoIHeads
from adapters.inspection.probe_inputs import probe_boxes, probe_features
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``masks.*``."""
    heads, channels = built.model.roi_heads, built.model.backbone.output_shape()["p2"].channels
    stages = branches(heads)
    yield "masks.stages", stages, "roi_heads.mask_heads"
    yield "masks.pool_size", heads.mask_pooler.output_size[0] if stages else None, "roi_heads.mask_pooler.output_size"
    weights = [float(heads.mask_loss_weight) for _ in stages]
    yield "masks.loss_weight", weights, "roi_heads.mask_loss_weight"
    shares = [trunk_gradient(heads, channels, stage) for stage in stages]
    yield "masks.trunk_gradient", shares, "probe: gradient at the feature map over that without scaling"
    entering = rois_entering(heads, channels)
    yield "masks.rois_entering", entering, "probe: hooks on roi_heads.mask_heads[t].predictor in training"


def branches(heads: ControlledRoIHeads) -> list[int]:
    """Stages, from 1, with a mask branch."""
    return [int(stage) for stage in heads.mask_heads] if isinstance(heads, MaskRoIHeads) else []


def trunk_gradient(heads: MaskRoIHeads, channels: int, stage: int) -> float:
    """Probe the share of a branch's gradient that reaches the trunk."""
    heads.train()
    maps = [one.requires_grad_() for one in probe_features(channels, 1)[: len(heads.box_in_features)]]
    boxes = [Boxes(probe_boxes(8))]
    pooled = heads.mask_features(stage, maps, boxes), heads.mask_pooler(maps, boxes)
    norms = [torch.autograd.grad(one.square().sum(), maps[0])[0].double().norm() for one in pooled]
    return round(float(norms[0] / norms[1]), 6)


def rois_entering(heads: ControlledRoIHeads, channels: int) -> list[int]:
    """Count the RoIs that train each branch on the batch that the heads' samples are counted on."""
    found: dict[int, int] = {}
    with ExitStack() as hooks:
        for stage in branches(heads):
            layer = heads.mask_heads[str(stage)].predictor
            hook = layer.register_forward_hook(lambda *given, stage=stage: found.update({stage: len(given[2])}))
            hooks.callback(hook.remove)
        if branches(heads):
            trained_batch(heads, channels)
    return list(found.values())
