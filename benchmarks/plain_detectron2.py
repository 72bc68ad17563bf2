"""Detectron2 without the harness: its configuration files, classes, data loader and the plain training loop."""

from collections.abc import Iterable
from pathlib import Path

import torch
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from detectron2.config import CfgNode, get_cfg, instantiate
from detectron2.data import DatasetCatalog, DatasetMapper, build_detection_train_loader
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import default_writers
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from adapters.detectron2.config import pyramid_config
from benchmarks.image_order import ImageOrder
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.study.run import Run

TEMPLATES = {
    "faster_rcnn": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "cascade_rcnn": "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
}
WRITTEN_EVERY = 20
"""Iterations from one that Detectron2's loop writes to the next."""


class PlainDetector:
    """Detectron2's own detector of a run's sizes.

    Parameters
    ----------
    data : Path
        The prepared dataset.
    workers : int
        Processes that read training images.
    """

    def __init__(self, run: Run, data: Path, workers: int) -> None:
        # Detectron2's builder refuses a ResNet-18 of few channels; the residual network and the pyramid are its own.
        if "pyramid_of_run" not in BACKBONE_REGISTRY:
            BACKBONE_REGISTRY.register(pyramid_of_run)
        pyramid_of_run.run = run
        name = f"plain {data}"
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
        register_coco_instances(name, {}, str(data / "train.json"), str(data / "images" / "train"))
        self.configuration = configuration(run, name, workers)
        self.order = ImageOrder(run, data)
        self.greatest_norm = run.protocol.optimizer.gradient_clip_norm
        self.model: nn.Module = build_model(self.configuration)
        self.mapper = DatasetMapper(self.configuration, is_train=False)

    def loader(self) -> Iterable[list[dict]]:
        """Detectron2's loader over the images in the adapter's order, whose batches are grouped already."""
        settings = self.configuration.clone()
        settings.DATALOADER.ASPECT_RATIO_GROUPING = False
        return build_detection_train_loader(settings, sampler=self.order)

    def train(self, folder: Path) -> None:
        """Train in Detectron2's plain loop, with the parts of its ``plain_train_net.py``."""
        settings, model = self.configuration, self.model
        optimizer = build_optimizer(settings, model)
        scheduler = build_lr_scheduler(settings, optimizer)
        checkpointer = DetectionCheckpointer(model, str(folder), optimizer=optimizer, scheduler=scheduler)
        last = settings.SOLVER.MAX_ITER
        periodic = PeriodicCheckpointer(checkpointer, settings.SOLVER.CHECKPOINT_PERIOD, max_iter=last)
        writers = default_writers(str(folder), last)
        model.train()
        with EventStorage(0) as storage:
            for iteration, batch in zip(range(last), self.loader(), strict=False):
                storage.iter = iteration
                terms = model(batch)
                loss = sum(terms.values())
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"the loss is not finite at iteration {iteration}")
                noted = {name: value.item() for name, value in comm.reduce_dict(terms).items()}
                storage.put_scalars(total_loss=sum(noted.values()), **noted)
                optimizer.zero_grad()
                loss.backward()
                if self.greatest_norm:
                    # Detectron2's own setting clips every tensor by itself.
                    nn.utils.clip_grad_norm_(model.parameters(), self.greatest_norm)
                optimizer.step()
                storage.put_scalar("lr", optimizer.param_groups[0]["lr"], smoothing_hint=False)
                scheduler.step()
                if iteration > 5 and (iteration + 1) % WRITTEN_EVERY == 0:
                    for writer in writers:
                        writer.write()
                periodic.step(iteration)
        for writer in writers:
            writer.close()

    def infer(self, record: ImageRecord) -> None:
        """Read an image and detect on it: the detector's one output."""
        entry = {"file_name": str(record.path), "height": record.height, "width": record.width}
        with torch.no_grad():
            self.model([self.mapper(entry)])


def pyramid_of_run(settings: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Detectron2's residual network and pyramid of the run that stands in the attribute `run`."""
    return instantiate(pyramid_config(pyramid_of_run.run))


def configuration(run: Run, dataset: str, workers: int) -> CfgNode:
    """Detectron2's template of the detector, with the run's sizes, numbers of boxes and schedule."""
    protocol = run.protocol
    settings = get_cfg()
    settings.merge_from_file(model_zoo.get_config_file(TEMPLATES[run.variant.name]))
    settings.DATASETS.TRAIN = (dataset,)
    settings.DATALOADER.NUM_WORKERS = workers
    settings.INPUT.FORMAT = run.backbone.channel_order.upper()
    settings.INPUT.MIN_SIZE_TRAIN = tuple(protocol.input.train_short_sides)
    settings.INPUT.MIN_SIZE_TEST = protocol.input.test_short_side
    settings.INPUT.MAX_SIZE_TRAIN = settings.INPUT.MAX_SIZE_TEST = protocol.input.max_long_side
    model = settings.MODEL
    model.DEVICE, model.WEIGHTS, model.MASK_ON = "cpu", "", False
    model.PIXEL_MEAN, model.PIXEL_STD = list(run.backbone.pixel_mean), list(run.backbone.pixel_std)
    model.BACKBONE.NAME = "pyramid_of_run"
    model.ANCHOR_GENERATOR.SIZES = [[protocol.rpn.anchors.scale * stride] for stride in (4, 8, 16, 32, 64)]
    model.ANCHOR_GENERATOR.ASPECT_RATIOS = [list(protocol.rpn.anchors.aspect_ratios)]
    model.RPN.BATCH_SIZE_PER_IMAGE = protocol.rpn.anchors_per_image
    model.RPN.PRE_NMS_TOPK_TRAIN, model.RPN.PRE_NMS_TOPK_TEST = protocol.rpn.train_pre_nms, protocol.rpn.test_pre_nms
    model.RPN.POST_NMS_TOPK_TRAIN, model.RPN.POST_NMS_TOPK_TEST = (
        protocol.rpn.train_post_nms,
        protocol.rpn.test_post_nms,
    )
    model.ROI_HEADS.NUM_CLASSES = len(run.dataset.categories)
    model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = protocol.heads.rois_per_image
    model.ROI_HEADS.SCORE_THRESH_TEST = protocol.inference.score_threshold
    model.ROI_BOX_HEAD.FC_DIM = protocol.heads.width
    model.ROI_BOX_HEAD.POOLER_RESOLUTION = protocol.heads.pool_size
    model.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO = protocol.heads.sampling_ratio
    model.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    settings.TEST.DETECTIONS_PER_IMAGE = protocol.inference.max_detections
    schedule, solver = protocol.schedule, settings.SOLVER
    solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER = schedule.batch_size, schedule.base_lr, schedule.iterations
    solver.STEPS, solver.WARMUP_ITERS = tuple(schedule.steps), schedule.warmup_iterations
    solver.WARMUP_FACTOR, solver.CHECKPOINT_PERIOD = schedule.warmup_factor, schedule.iterations
    return settings
