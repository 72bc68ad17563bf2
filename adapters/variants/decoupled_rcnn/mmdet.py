"""Decoupled R-CNN: classifier and regressors train on RoIs of their own, through layers of their own."""

from typing import Any

from adapters.mmdet.config import box_head_config, sample_apart, set_stages
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


def configure(config: dict[str, Any], run: Run) -> None:
    """Replace the one stage by regressors in a row with their classifiers, and sample twice."""
    options = run.variant.options
    shared, convolutions = options["heads"] == "shared", options["double_head"]
    stages = stage_settings(run)
    box_heads = [
        box_head_config(run, stage, shared and number == 0, convolutions) for number, stage in enumerate(stages)
    ]
    set_stages(config, run, stages, box_heads)
    sample_apart(config, run, 1.0, options["regression_ground_truth"])
