"""A detector as MMDetection's own configuration file builds it, with its own test pipeline."""

from collections.abc import Iterator
from contextlib import contextmanager
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

from adapters.contract import Detections
from adapters.mmdet.data import image_fields
from adapters.prediction.checkpoint_prediction import own_stages
from adapters.prediction.score_rules import StageOutputs, boxes_and_scores
from cascadebench.core.errors import InputError
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
        with _noted_stages(self.model if self.stages else None) as outputs:
            (sample,) = self.model.test_step(batch)
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
    try:
        content = Config.fromfile(config)
        pipeline = content.test_dataloader.dataset.pipeline
        model = MODELS.build(content.model).to(device).eval()
    except Exception as error:  # a configuration is code, which may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{config}: no detector could be built from it: {reason}") from error
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


@contextmanager
def _noted_stages(model: nn.Module | None) -> Iterator[StageOutputs]:
    """Note what every stage of a cascade gives while the block runs, of one image."""
    outputs = StageOutputs([], [], [])
    if model is None:
        yield outputs
        return
    heads, sizes = model.roi_head, []
    forward, predict = heads._bbox_forward, heads.predict_bbox

    def noted_predict(x: Any, metas: list[dict], *others: Any, **named: Any) -> Any:
        sizes.append(metas[0]["img_shape"])
        return predict(x, metas, *others, **named)

    def noted_forward(stage: int, x: tuple[Tensor, ...], rois: Tensor, **named: Any) -> dict[str, Tensor]:
        results = forward(stage, x, rois, **named)
        coder = heads.bbox_head[stage].bbox_coder
        outputs.boxes.append(coder.decode(rois[:, 1:], results["bbox_pred"], max_shape=sizes[-1]))
        outputs.logits.append(results["cls_score"])
        return results

    heads._bbox_forward, heads.predict_bbox = noted_forward, noted_predict
    try:
        yield outputs
    finally:
        del heads._bbox_forward, heads.predict_bbox


def _detections(boxes: Tensor, scores: Tensor, labels: Tensor) -> Detections:
    """Boxes in the original image, without those of negative size."""
    keep = (boxes[:, 2:] >= boxes[:, :2]).all(dim=1)
    return Detections(
        boxes[keep].cpu().numpy().astype(np.float32),
        scores[keep].cpu().numpy().astype(np.float32),
        labels[keep].cpu().numpy().astype(np.int64),
    )
