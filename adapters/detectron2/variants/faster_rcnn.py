"""Faster R-CNN FPN: the base itself, with one box regressor for all classes or one per class."""

from omegaconf import DictConfig

from cascadebench.run import Run


def configure(node: DictConfig, run: Run) -> None:
    """Choose the regressor; everything else is the base."""
    class_agnostic = run.variant.options["regression"] == "class_agnostic"
    node.roi_heads.box_predictors[0].cls_agnostic_bbox_reg = class_agnostic
