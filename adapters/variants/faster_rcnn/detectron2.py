"""Faster R-CNN FPN: the base itself, or with another threshold, regressor, head or sampling."""

from omegaconf import DictConfig

from adapters.detectron2.config import sample_apart, set_stages, task_branches_node
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


def configure(node: DictConfig, run: Run) -> None:
    """Follow the options; with their defaults everything is the base."""
    options, heads, settings = run.variant.options, run.protocol.heads, stage_settings(run)
    set_stages(node.roi_heads, run, settings)
    if options["heads"] == "unshared":
        node.roi_heads.box_heads = [task_branches_node(run, stage) for stage in settings]
    nms = [options["nms_cls"], options["nms_reg"]]
    if nms != [None, None]:
        sample_apart(node, run, nms, heads.positive_fraction, heads.add_ground_truth)
