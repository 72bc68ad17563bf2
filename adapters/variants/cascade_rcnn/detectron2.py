"""Cascade R-CNN: heads in a row, each on the boxes of the head before."""

from omegaconf import DictConfig

from adapters.detectron2.config import set_stages
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


def configure(config: DictConfig, run: Run) -> None:
    """Replace the one stage by a cascade."""
    set_stages(config, run, stage_settings(run))
