"""Cascade R-CNN: heads in a row, each on the boxes of the head before."""

from cascadebench.cascade import stage_iou_thresholds, stage_target_stds, stage_weights
from omegaconf import DictConfig

from adapters.detectron2.config import box_head_node, box_predictor_node, matcher_node
from cascadebench.run import Run


def configure(node: DictConfig, run: Run) -> None:
    """Replace the one stage by a cascade."""
    heads, stages = run.protocol.heads, run.variant.stages
    node.roi_heads.update(
        box_heads=[box_head_node(run) for _ in range(stages)],
        box_predictors=[box_predictor_node(run, stds) for stds in stage_target_stds(heads.target_stds, stages)],
        proposal_matchers=[matcher_node(iou) for iou in stage_iou_thresholds(heads.iou_threshold, stages)],
        # Every head sees its full gradient; the stage's weight acts where the trunk begins.
        trunk_gradient=stage_weights(run.variant.options["stage_loss"], stages),
    )
