"""Decoupled R-CNN: classifier and regressors train on RoIs of their own, through layers of their own."""

from omegaconf import DictConfig

from adapters.detectron2.config import box_head_config, sample_apart, set_stages
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings

ALL = 1.0
"""Greatest share of positives among regression RoIs: negatives fill up what is left."""


def configure(config: DictConfig, run: Run) -> None:
    """Build every stage with branches of its own, and sample for classification and regression apart."""
    options, settings = run.variant.options, stage_settings(run)
    shared = options["heads"] == "shared"  # in the first stage
    box_heads = [
        box_head_config(run, stage, shared and number == 0, options["double_head"])
        for number, stage in enumerate(settings)
    ]
    set_stages(config, run, settings, box_heads)
    sample_apart(config, run, ALL, options["regression_ground_truth"])
    config.roi_heads.moved_by = options["moved_by"]
