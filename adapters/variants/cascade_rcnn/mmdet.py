"""Cascade R-CNN: heads in a row, each on the boxes of the head before."""

from typing import Any

from adapters.mmdet.config import box_head_config, set_stages
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


def configure(config: dict[str, Any], run: Run) -> None:
    """Replace the one stage by a cascade."""
    config["type"] = "CascadeRCNN"
    stages = stage_settings(run)
    set_stages(config, run, stages, [box_head_config(run, stage) for stage in stages])
