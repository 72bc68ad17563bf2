"""Faster R-CNN FPN: the base itself, with one box regressor for all classes or one per class."""

from typing import Any

from cascadebench.run import Run


def configure(config: dict[str, Any], run: Run) -> None:
    """Choose the regressor; everything else is the base."""
    config["roi_head"]["bbox_head"]["reg_class_agnostic"] = run.variant.options["regression"] == "class_agnostic"
