"""What serves Detectron2's NMS and RoIAlign, and where Detectron2 itself comes from."""

from importlib import import_module, metadata
from pathlib import Path

import detectron2


def operators_in_use() -> str:
    """Say what serves NMS and RoIAlign: ``torchvision`` or ``detectron2 compiled``.

    Present versions call torchvision's operators for upright boxes, whether their own compiled part loads or not.
    """
    # Functions of the same names hide these modules in detectron2.layers.
    nms, roi_align = import_module("detectron2.layers.nms"), import_module("detectron2.layers.roi_align")
    serving = {nms.box_ops.__name__.partition(".")[0], roi_align.roi_align.__module__.partition(".")[0]}
    return "torchvision" if serving == {"torchvision"} else "detectron2 compiled"


def origin() -> str:
    """Say what brought the imported ``detectron2``: ``official``, the name of a repackaging or ``source folder``."""
    names = set(metadata.packages_distributions().get("detectron2", []))
    if "detectron2" in names:
        return "official"
    imported = Path(detectron2.__file__).resolve()
    for name in sorted(names):
        if Path(metadata.distribution(name).locate_file("detectron2/__init__.py")).resolve() == imported:
            return name
    return "source folder"
