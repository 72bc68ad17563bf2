"""What serves Detectron2's NMS and RoIAlign, and where Detectron2 itself comes from."""

from importlib import import_module, metadata


def operators_in_use() -> str:
    """Say what serves NMS and RoIAlign: ``torchvision`` or ``detectron2 compiled``.

    Since version 0.3 Detectron2 calls torchvision's operators for upright boxes, whether its own compiled part loads or
    not.
    """
    # Functions of the same names hide these modules in detectron2.layers.
    nms, roi_align = import_module("detectron2.layers.nms"), import_module("detectron2.layers.roi_align")
    serving = {nms.box_ops.__name__.partition(".")[0], roi_align.roi_align.__module__.partition(".")[0]}
    return "torchvision" if serving == {"torchvision"} else "detectron2 compiled"


def origin() -> str:
    """Say which distribution put the package ``detectron2`` here: ``official`` or the name of a repackaging."""
    names = metadata.packages_distributions().get("detectron2", [])
    return "official" if "detectron2" in names or not names else ", ".join(sorted(set(names)))
