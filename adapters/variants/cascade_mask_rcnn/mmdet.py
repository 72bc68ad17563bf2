"""Cascade Mask R-CNN: a cascade with a mask branch on its first, its last or every stage."""

from typing import Any

from adapters.layers.instance_masks import POOL_SIZE
from adapters.mmdet import mask_heads  # noqa: F401 (registers its module)
from adapters.mmdet.config import roi_extractor_config
from adapters.variants.cascade_rcnn import mmdet as cascade_rcnn
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import mask_stages


def configure(config: dict[str, Any], run: Run) -> None:
    """Build Cascade R-CNN, and add the branches."""
    cascade_rcnn.configure(config, run)
    extractor, channels = roi_extractor_config(run), run.protocol.neck.channels
    branch = {
        "type": "FCNMaskHead",
        "num_convs": 4,
        "in_channels": channels,
        "conv_out_channels": channels,
        "num_classes": len(run.dataset.categories),
    }
    config["roi_head"] |= {
        "type": "MaskRoIHeads",
        "mask_roi_extractor": extractor | {"roi_layer": extractor["roi_layer"] | {"output_size": POOL_SIZE}},
        "mask_head": {str(stage): dict(branch) for stage in mask_stages(run)},
        "mask_test_stage": run.variant.headline,
    }
