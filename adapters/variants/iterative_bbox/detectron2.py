"""Iterative BBox: the baseline, its one head applied several times at test."""

from omegaconf import DictConfig

from cascadebench.study.run import Run


def configure(node: DictConfig, run: Run) -> None:
    """Apply the head as often as asked; training is the baseline's."""
    node.roi_heads.applications = run.variant.stages
