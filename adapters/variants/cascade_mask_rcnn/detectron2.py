"""Cascade Mask R-CNN: a cascade with a mask branch on its first, its last or every stage."""

from detectron2.config import LazyCall
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from omegaconf import DictConfig

from adapters.detectron2.config import STRIDES
from adapters.detectron2.mask_heads import MaskRoIHeads
from adapters.layers.instance_masks import POOL_SIZE
from adapters.variants.cascade_rcnn import detectron2 as cascade_rcnn
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import mask_stages


def configure(config: DictConfig, run: Run) -> None:
    """Build Cascade R-CNN, and add the branches."""
    cascade_rcnn.configure(config, run)
    stages, channels = mask_stages(run), run.protocol.neck.channels
    config.roi_heads["_target_"] = MaskRoIHeads
    config.roi_heads.update(
        mask_stages=stages,
        mask_pooler=LazyCall(ROIPooler)(
            output_size=POOL_SIZE,
            scales=[1 / stride for stride in STRIDES[:4]],
            sampling_ratio=run.protocol.heads.sampling_ratio,
            pooler_type="ROIAlignV2",
        ),
        mask_heads=[
            LazyCall(MaskRCNNConvUpsampleHead)(
                input_shape=ShapeSpec(channels=channels, height=POOL_SIZE, width=POOL_SIZE),
                num_classes=len(run.dataset.categories),
                conv_dims=[channels] * 5,  # four convolutions and the deconvolution
            )
            for _ in stages
        ],
        mask_test_stage=run.variant.headline,
    )
