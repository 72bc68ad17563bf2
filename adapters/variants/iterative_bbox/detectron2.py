"""Iterative BBox: the baseline, its one head applied several times at test."""

from omegaconf import DictConfig

from cascadebench.study.run import Run


def configure(config: DictConfig, run: Run) -> None:
    """Apply the head as often as asked; training is the baseline's."""
    config.roi_heads.applications = run.variant.stages
