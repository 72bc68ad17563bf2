"""Iterative BBox: the baseline, whose one head is applied several times at test."""

from typing import Any

from cascadebench.study.run import Run


def configure(config: dict[str, Any], run: Run) -> None:
    """Apply the base's head as often as asked for."""
    config["roi_head"]["applications"] = run.variant.stages
