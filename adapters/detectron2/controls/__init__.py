"""Effective values of a run in Detectron2, read back from its built objects or probed by how they behave."""

from adapters.contract import Control
from adapters.detectron2.controls import backbone, heads, images, inference, masks, proposals, training
from adapters.detectron2.controls.control_rows import undisturbed
from adapters.training.assembly import Built

PARTS = (training, images, backbone, proposals, heads, masks, inference)


def read_controls(built: Built) -> list[Control]:
    """Read every control; the objects, and the random state, are left as they were."""
    with undisturbed(built.model):
        return [Control(*row) for part in PARTS for row in part.rows(built)]
