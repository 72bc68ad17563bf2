"""MMDetection without the harness: its templates, classes, data pipeline, runner and default hooks."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import mmdet
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from adapters.mmdet.config import backbone_config
from adapters.mmdet.training import scheduler_config
from benchmarks.image_order import ImageOrder
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.study.run import Run

TEMPLATES = Path(mmdet.__file__).parent / ".mim" / "configs" / "_base_"
# The runner asks for the specification of mmcv's operators, which the adapter's stand-in for them does not have.
sys.modules["mmcv._ext"].__spec__ = sys.modules["mmcv._ext"].__spec__ or ModuleSpec("mmcv._ext", None)

MODEL_TEMPLATES = {"faster_rcnn": "faster-rcnn_r50_fpn.py", "cascade_rcnn": "cascade-rcnn_r50_fpn.py"}


class PlainDetector:
    """MMDetection's own detector of a run's sizes.

    Parameters
    ----------
    data : Path
        The prepared dataset.
    workers : int
        Processes that read training images.
    """

    def __init__(self, run: Run, data: Path, workers: int) -> None:
        self.run, self.data, self.workers = run, data, workers
        self.order = ImageOrder(run, data)
        init_default_scope("mmdet")
        self.config = model_config(run)
        self.model: nn.Module = MODELS.build(self.config)
        self.model.init_weights()
        self.test_transforms = Compose(pipeline(run, training=False))

    def train(self, folder: Path) -> None:
        """Train as MMDetection's ``tools/train.py`` does, but by iterations and without validation."""
        runtime = Config.fromfile(TEMPLATES / "default_runtime.py")
        iterations, optimizer = self.run.protocol.schedule.iterations, self.run.protocol.optimizer
        sgd = {"type": "SGD", "lr": self.run.protocol.schedule.base_lr, "momentum": optimizer.momentum}
        clip = {"clip_grad": {"max_norm": optimizer.gradient_clip_norm}} if optimizer.gradient_clip_norm else {}
        runtime.merge_from_dict(
            {
                "default_hooks.checkpoint": {"by_epoch": False, "interval": iterations},
                "log_processor.by_epoch": False,
                "env_cfg.dist_cfg.backend": "gloo",
            }
        )
        runner = Runner(
            model=self.model,
            work_dir=str(folder),
            train_dataloader=self.loader_config(),
            train_cfg={"type": "IterBasedTrainLoop", "max_iters": iterations, "val_interval": iterations + 1},
            optim_wrapper={"optimizer": sgd | {"weight_decay": optimizer.weight_decay}} | clip,
            param_scheduler=scheduler_config(self.run),
            default_hooks=runtime.default_hooks,
            # Visualizers are kept by name, and the first one's folder is gone when the next training begins.
            visualizer=runtime.visualizer | {"name": folder.name},
            log_processor=runtime.log_processor,
            env_cfg=runtime.env_cfg,
            log_level="WARNING",
            default_scope="mmdet",
            experiment_name=folder.name,
        )
        torch.set_num_threads(1)  # the runner sets its own number
        runner.train()

    def infer(self, record: ImageRecord) -> None:
        """Read an image and detect on it: the detector's one output."""
        fields = {"img_id": record.id, "img_path": str(record.path)}
        with torch.no_grad():
            self.model.test_step(pseudo_collate([self.test_transforms(fields)]))

    def loader_config(self) -> dict[str, Any]:
        """MMDetection's reading of a COCO dataset, without an end."""
        return {
            "batch_size": self.run.protocol.schedule.batch_size,
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "sampler": self.order,
            "dataset": {
                "type": "CocoDataset",
                "data_root": str(self.data),
                "ann_file": "train.json",
                "data_prefix": {"img": "images/train/"},
                "metainfo": {"classes": self.run.dataset.categories},
                "filter_cfg": {"filter_empty_gt": True, "min_size": 32},
                "pipeline": pipeline(self.run, training=True),
            },
        }


def pipeline(run: Run, training: bool) -> list[dict[str, Any]]:
    """MMDetection's transforms, with OpenCV as it is by default."""
    sizes = run.protocol.input
    if training:
        return [
            {"type": "LoadImageFromFile"},
            {"type": "LoadAnnotations", "with_bbox": True},
            {"type": "Resize", "scale": (sizes.max_long_side, sizes.train_short_sides[0]), "keep_ratio": True},
            {"type": "RandomFlip", "prob": sizes.flip_probability},
            {"type": "PackDetInputs"},
        ]
    return [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": (sizes.max_long_side, sizes.test_short_side), "keep_ratio": True},
        {"type": "PackDetInputs", "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")},
    ]


def model_config(run: Run) -> ConfigDict:
    """MMDetection's template of the detector, with the run's sizes and numbers of boxes."""
    model = Config.fromfile(TEMPLATES / "models" / MODEL_TEMPLATES[run.variant.name]).model
    protocol, channels = run.protocol, run.protocol.neck.channels
    model.backbone = ConfigDict(backbone_config(run))
    model.data_preprocessor.pad_size_divisor = protocol.input.size_divisor
    model.neck.update(in_channels=list(run.backbone.channels), out_channels=channels)
    model.rpn_head.update(in_channels=channels, feat_channels=channels)
    model.rpn_head.anchor_generator.update(
        scales=[protocol.rpn.anchors.scale], ratios=list(protocol.rpn.anchors.aspect_ratios)
    )
    model.roi_head.bbox_roi_extractor.out_channels = channels
    model.roi_head.bbox_roi_extractor.roi_layer.update(
        output_size=protocol.heads.pool_size, sampling_ratio=protocol.heads.sampling_ratio
    )
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(
            in_channels=channels,
            fc_out_channels=protocol.heads.width,
            roi_feat_size=protocol.heads.pool_size,
            num_classes=len(run.dataset.categories),
            reg_class_agnostic=True,
        )
    stages = model.train_cfg.rcnn
    for stage in stages if isinstance(stages, list) else [stages]:
        stage.sampler.num = protocol.heads.rois_per_image
    model.train_cfg.rpn.sampler.num = protocol.rpn.anchors_per_image
    model.train_cfg.rpn_proposal.update(nms_pre=protocol.rpn.train_pre_nms, max_per_img=protocol.rpn.train_post_nms)
    model.test_cfg.rpn.update(nms_pre=protocol.rpn.test_pre_nms, max_per_img=protocol.rpn.test_post_nms)
    model.test_cfg.rcnn.update(
        score_thr=protocol.inference.score_threshold, max_per_img=protocol.inference.max_detections
    )
    return model
