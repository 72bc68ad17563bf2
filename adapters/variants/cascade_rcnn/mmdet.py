"""Cascade R-CNN: heads in a row, each on the boxes of the head before."""

from typing import Any

from adapters.mmdet.config import set_stages
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


def configure(config: dict[str, Any], run: Run) -> None:
    """Replace the one stage by a cascade."""
    config["type"] = "CascadeRCNN"
    set_stages(config, run, stage_settings(run))
