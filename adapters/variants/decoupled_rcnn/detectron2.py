"""Decoupled R-CNN: classifier and regressors learn from RoIs of their own; the regressors stand in a row."""

from omegaconf import DictConfig

from adapters.detectron2.config import box_head_node, sample_apart, set_stages, task_branches_node
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings

ALL = 1.0
"""Greatest share of positives among regression RoIs: negatives fill up what is left."""


def configure(node: DictConfig, run: Run) -> None:
    """Build every stage with branches of its own, and sample for classification and regression apart."""
    options, settings = run.variant.options, stage_settings(run)
    set_stages(node.roi_heads, run, settings)
    branches = [task_branches_node(run, stage, options["double_head"]) for stage in settings]
    if options["heads"] == "shared":
        branches[0] = box_head_node(run)
    node.roi_heads.box_heads = branches
    sample_apart(node, run, [options["nms_cls"], options["nms_reg"]], ALL, options["regression_ground_truth"])
