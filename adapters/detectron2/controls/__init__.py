"""Effective values of a run in Detectron2, read back from its built objects or probed by how they behave."""

from adapters.contract import Control
from adapters.detectron2.controls import backbone, heads, images, inference, masks, proposals, training
from adapters.inspection.control_rows import read_rows
from adapters.training.assembly import Built

PARTS = (training, images, backbone, proposals, heads, masks, inference)


def read_controls(built: Built) -> list[Control]:
    """Read every control; the objects, and the random state, are left as they were."""
    return read_rows(built, [part.rows for part in PARTS])
