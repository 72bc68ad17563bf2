"""The mask branches: where they are, and how they train."""

from collections.abc import Iterator

from detectron2.structures import Boxes

from adapters.detectron2.controls.head_probes import probed_heads
from adapters.detectron2.mask_heads import MaskRoIHeads
from adapters.detectron2.stages import ControlledRoIHeads
from adapters.inspection.control_rows import Row
from adapters.inspection.head_probes import ProbedHeads, gradient_share
from adapters.inspection.probe_inputs import probe_boxes, probe_features
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``masks.*``."""
    heads, probes = built.model.roi_heads, probed_heads(built)
    stages = branches(heads)
    yield "masks.stages", stages, "roi_heads.mask_heads"
    yield "masks.pool_size", heads.mask_pooler.output_size[0] if stages else None, "roi_heads.mask_pooler.output_size"
    weights = [float(heads.mask_loss_weight) for _ in stages]
    yield "masks.loss_weight", weights, "roi_heads.mask_loss_weight"
    shares = [trunk_gradient(probes, stage) for stage in stages]
    yield "masks.trunk_gradient", shares, "probe: gradient at the feature map over that without scaling"
    entering = probes.trained_on([heads.mask_heads[str(stage)].predictor for stage in stages])
    yield "masks.rois_entering", entering, "probe: hooks on roi_heads.mask_heads[t].predictor in training"


def branches(heads: ControlledRoIHeads) -> list[int]:
    """Stages, from 1, with a mask branch."""
    return [int(stage) for stage in heads.mask_heads] if isinstance(heads, MaskRoIHeads) else []


def trunk_gradient(probes: ProbedHeads, stage: int) -> float | None:
    """Probe the share of a branch's gradient that reaches the trunk."""
    heads = probes.module
    maps = [level.requires_grad_() for level in probe_features(probes.channels, 1)[: len(heads.box_in_features)]]
    boxes = [Boxes(probe_boxes(8))]
    return gradient_share(heads.mask_features(stage, maps, boxes), heads.mask_pooler(maps, boxes), maps[0])
