"""Faster R-CNN FPN: the base itself, with layers for each task or proposals for each task if so chosen."""

from typing import Any

from adapters.mmdet.config import box_head_config, sample_apart, set_stages
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


def configure(config: dict[str, Any], run: Run) -> None:
    """Choose the layers of the one head, and whether the two tasks sample apart."""
    options, heads, settings = run.variant.options, run.protocol.heads, stage_settings(run)
    set_stages(config, run, settings, [box_head_config(run, settings[0], shared=options["heads"] == "shared")])
    if (options["nms_cls"], options["nms_reg"]) != (None, None):
        sample_apart(config, run, heads.positive_fraction, heads.add_ground_truth)
