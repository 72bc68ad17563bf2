"""A detector as Detectron2's own configuration file builds it, with its own test pipeline."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, fast_rcnn_inference
from detectron2.structures import Instances
from torch import Tensor, nn

from adapters.prediction.checkpoint_prediction import building, own_stages
from adapters.prediction.predict_image import Detections, noted
from adapters.prediction.score_rules import StageOutputs, boxes_and_scores
from cascadebench.core.errors import InputError
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.imported.importing import FINAL

KINDS = (np.float32, np.float32, np.int64)
"""Types of boxes, scores and labels."""


class Detectron2Model:
    """Keeps :class:`adapters.prediction.checkpoint_prediction.StockModel`."""

    def __init__(self, model: nn.Module, mapper: DatasetMapper) -> None:
        self.model, self.mapper = model, mapper
        heads = getattr(model, "roi_heads", None)
        self.classes = heads.num_classes if heads is not None else model.num_classes
        self.stages = heads.num_cascade_stages if _readable(heads) else 0

    @torch.inference_mode()
    def predict(self, record: ImageRecord) -> dict[str, Detections]:
        """Detect on one image as the framework tests it; the stages of a cascade come from the same pass."""
        known = {"file_name": str(record.path), "image_id": record.id, "width": record.width, "height": record.height}
        heads = self.model.roi_heads if self.stages else None
        outputs, sizes = StageOutputs([], [], []), []  # by the stages of a cascade, of one image

        def note(predictions: tuple, _features: list[Tensor], proposals: list[Instances], stage: int) -> None:
            outputs.boxes.extend(heads.box_predictor[stage].predict_boxes(predictions, proposals))
            outputs.logits.append(predictions[0])
            sizes.append(proposals[0].image_size)

        with noted(heads, "_run_stage", note) if self.stages else nullcontext():
            (own,) = self.model([self.mapper(known)])
        found = {}
        for stage, boxes, scores in boxes_and_scores(own_stages(self.stages), outputs):
            predictor = heads.box_predictor[stage.boxes - 1]
            limits = (predictor.test_score_thresh, predictor.test_nms_thresh, predictor.test_topk_per_image)
            (detected,), _ = fast_rcnn_inference([boxes], [scores], [sizes[0]], *limits)
            found[stage.label] = _on_original(detected, record)
        return found | {FINAL: _on_original(own["instances"], record)}


def _on_original(detected: Instances, record: ImageRecord) -> Detections:
    """Scale boxes to the original image, clip them to it and drop what has no area; `detected` is used up."""
    scaled = detector_postprocess(detected, record.height, record.width)
    parts = (scaled.pred_boxes.tensor, scaled.scores, scaled.pred_classes)
    return Detections(*(part.cpu().numpy().astype(kind) for part, kind in zip(parts, KINDS, strict=True)))


def load(config: Path, device: torch.device) -> Detectron2Model:
    """Build the detector of a configuration file, without weights, and its test pipeline.

    Raises
    ------
    InputError
        If the file is no YAML configuration of a detector.
    """
    if config.suffix not in (".yaml", ".yml"):
        raise InputError(f"{config}: a YAML configuration is expected; a lazy one in Python is not read")
    content = get_cfg()
    with building(config):
        content.merge_from_file(str(config), allow_unsafe=False)
        content.MODEL.WEIGHTS, content.MODEL.DEVICE = "", str(device)
        model, mapper = build_model(content).eval(), DatasetMapper(content, is_train=False)
    return Detectron2Model(model, mapper)


def _readable(heads: nn.Module | None) -> bool:
    """Whether it is a cascade of the framework's own kind, whose stages each classify by softmax and regress."""
    return isinstance(heads, CascadeROIHeads) and all(
        type(one) is FastRCNNOutputLayers and not getattr(one, "use_sigmoid_ce", False) for one in heads.box_predictor
    )
