"""Controls of the mask branches; a detector without masks has none of them."""

from typing import Any

from cascadebench.controls.control_definition import ControlDefinition as Control
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import mask_stages, stage_settings

MASK_POOL_SIZE = 14


def _pool_size(run: Run) -> int | None:
    return MASK_POOL_SIZE if mask_stages(run) else None


def _trunk_gradients(run: Run) -> list[Any]:
    settings = stage_settings(run)
    return [settings[stage - 1].trunk_gradient for stage in mask_stages(run)]


MASKS = (
    Control("masks.stages", "Stages, from 1, with a mask branch.", expected=mask_stages),
    Control("masks.pool_size", "Side of a RoI pooled for masks; none: no masks.", "cells", expected=_pool_size),
    Control(
        "masks.loss_weight",
        "Weight of each mask branch's loss in its own gradient.",
        expected=lambda run: [1.0] * len(mask_stages(run)),
    ),
    Control(
        "masks.trunk_gradient",
        "Probe: share of each mask branch's gradient that reaches the trunk.",
        expected=_trunk_gradients,
    ),
    Control("masks.rois_entering", "Probe: RoIs that train each mask branch on a fixed batch.", kind="equal"),
)
