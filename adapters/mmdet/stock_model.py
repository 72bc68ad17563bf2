"""A detector as MMDetection's own configuration file builds it, with its own test pipeline."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from adapters.mmdet.data import image_fields
from adapters.prediction.checkpoint_prediction import building, own_stages
from adapters.prediction.predict_image import Detections, noted
from adapters.prediction.score_rules import StageOutputs, boxes_and_scores
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.imported.importing import FINAL


class MMDetectionModel:
    """Keeps :class:`adapters.prediction.checkpoint_prediction.StockModel`."""

    def __init__(self, model: nn.Module, transforms: Compose) -> None:
        self.model, self.transforms = model, transforms
        self.classes = _classes(model)
        self.stages = model.roi_head.num_stages if _readable(model) else 0

    @torch.inference_mode()
    def predict(self, record: ImageRecord) -> dict[str, Detections]:
        """Detect on one image as the framework tests it; the stages of a cascade come from the same pass."""
        # Annotations take no part; pipelines of the framework's configurations may ask for them.
        batch = pseudo_collate([self.transforms(image_fields(record) | {"instances": []})])
        given = []  # by the stages of a cascade, of one image

        def note(results: dict[str, Tensor], stage: int, x: tuple[Tensor, ...], rois: Tensor, **_named: Any) -> None:
            given.append((stage, rois[:, 1:], results["bbox_pred"], results["cls_score"]))

        with noted(self.model.roi_head, "_bbox_forward", note) if self.stages else nullcontext():
            (sample,) = self.model.test_step(batch)
        outputs = StageOutputs([], [], [])
        for stage, rois, deltas, logits in given:
            coder = self.model.roi_head.bbox_head[stage].bbox_coder
            outputs.boxes.append(coder.decode(rois, deltas, max_shape=sample.img_shape))
            outputs.logits.append(logits)
        own = sample.pred_instances
        found = {}
        for stage, boxes, scores in boxes_and_scores(own_stages(self.stages), outputs) if outputs.boxes else ():
            config = self.model.test_cfg.rcnn
            scale = boxes.new_tensor(sample.scale_factor).repeat(boxes.shape[1] // 2)
            rows, labels = multiclass_nms(boxes / scale, scores, config.score_thr, config.nms, config.max_per_img)
            found[stage.label] = _detections(rows[:, :4], rows[:, 4], labels)
        nothing = _detections(own.bboxes[:0], own.scores[:0], own.labels[:0])
        stages = {stage.label: found.get(stage.label, nothing) for stage in own_stages(self.stages)}
        return stages | {FINAL: _detections(own.bboxes, own.scores, own.labels)}


def load(config: Path, device: torch.device) -> MMDetectionModel:
    """Build the detector of a configuration file, without weights, and its test pipeline.

    Raises
    ------
    InputError
        If the file is no configuration of a detector.
    """
    register_all_modules(init_default_scope=True)
    with building(config):
        content = Config.fromfile(config)
        pipeline = content.test_dataloader.dataset.pipeline
        model = MODELS.build(content.model).to(device).eval()
    return MMDetectionModel(model, Compose(pipeline))


def _classes(model: nn.Module) -> int:
    head = model.roi_head.bbox_head if getattr(model, "roi_head", None) is not None else model.bbox_head
    return (head[0] if isinstance(head, nn.ModuleList) else head).num_classes


def _readable(model: nn.Module) -> bool:
    """Whether it is a cascade of the framework's own kind, whose stages each classify by softmax and regress."""
    heads = getattr(model, "roi_head", None)
    if not isinstance(heads, CascadeRoIHead) or type(heads)._bbox_forward is not CascadeRoIHead._bbox_forward:
        return False
    return all(one.with_cls and one.with_reg and not one.custom_activation for one in heads.bbox_head)


def _detections(boxes: Tensor, scores: Tensor, labels: Tensor) -> Detections:
    """Boxes in the original image, without those of negative size."""
    keep = (boxes[:, 2:] >= boxes[:, :2]).all(dim=1)
    return Detections(
        boxes[keep].cpu().numpy().astype(np.float32),
        scores[keep].cpu().numpy().astype(np.float32),
        labels[keep].cpu().numpy().astype(np.int64),
    )
