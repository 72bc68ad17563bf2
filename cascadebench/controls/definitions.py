"""Every control, defined once. ``docs/controlled-variables.md`` is generated from here."""

from cascadebench.controls.control_definition import ControlDefinition
from cascadebench.controls.definitions_masks import MASKS
from cascadebench.controls.definitions_model import BACKBONE, HEADS, INFERENCE, MODEL, RPN
from cascadebench.controls.definitions_training import INPUT, ODD_SIZES, OPTIMIZER, SCHEDULE, TRAINING

__all__ = ["CONTROLS", "GROUPS", "ODD_SIZES"]

GROUPS: dict[str, tuple[ControlDefinition, ...]] = {
    "Schedule": SCHEDULE,
    "Optimizer": OPTIMIZER,
    "Training": TRAINING,
    "Input": INPUT,
    "Backbone and neck": BACKBONE,
    "Region proposal network": RPN,
    "Heads": HEADS,
    "Masks": MASKS,
    "Inference": INFERENCE,
    "Model": MODEL,
}
"""The controls by part of a detector, under a title."""

CONTROLS: dict[str, ControlDefinition] = {control.name: control for group in GROUPS.values() for control in group}
"""The controls by name."""
