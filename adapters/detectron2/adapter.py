"""Detectron2's side of the contract."""

from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

import detectron2
import numpy as np
import torch
import torchvision
from detectron2.data.build import trivial_batch_collator
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Instances
from torch import Tensor, nn

from adapters.contract import Control, Detections, Prediction
from adapters.detectron2 import training
from adapters.detectron2.config import build_detector
from adapters.detectron2.controls import read_controls
from adapters.detectron2.cost import trace_parts
from adapters.detectron2.data import ImageReader, TrainingDataset
from adapters.detectron2.operators import operators_in_use, origin
from adapters.detectron2.weights import load_backbone_weights
from adapters.score_rules import boxes_and_scores
from adapters.training_loader import training_loader
from adapters.training_session import TrainingSession
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.run import Run
from cascadebench.test_stages import cascade_test_stages
from cascadebench.training_order import TrainingOrder


class Detectron2Adapter:
    """Keeps :class:`adapters.contract.Adapter`."""

    def versions(self) -> dict[str, str]:
        """Versions of Detectron2 and its base library, where it comes from, and what serves its operators."""
        return {
            "detectron2": detectron2.__version__,
            "detectron2 origin": origin(),
            "fvcore": metadata.version("fvcore"),
            "torchvision": torchvision.__version__,
            "detectron2 operators": operators_in_use(),
        }

    def build_model(self, run: Run) -> nn.Module:
        """Build the detector with random initial weights."""
        return build_detector(run)

    def load_backbone_weights(self, model: nn.Module, run: Run) -> None:
        """Fill the backbone from the run's file."""
        load_backbone_weights(model, run)

    def build_optimizer(self, model: nn.Module, run: Run) -> torch.optim.Optimizer:
        """Build the optimizer over the parameters that learn."""
        return training.build_optimizer(model, run)

    def controls(self, run: Run) -> list[Control]:
        """Read the effective values back."""
        return read_controls(run)

    def trace_parts(
        self, model: nn.Module, run: Run, width: int, height: int, rois: int
    ) -> list[tuple[nn.Module, tuple]]:
        """Split one inference into parts that can be traced."""
        return trace_parts(model, width, height, rois)

    def train(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], order: TrainingOrder, session: TrainingSession
    ) -> None:
        """Train with Detectron2's trainer."""
        loader = training_loader(TrainingDataset(run, records, order), order, session, trivial_batch_collator)
        training.train(run, model, loader, session)

    def predict(self, run: Run, model: nn.Module, records: Sequence[ImageRecord]) -> Iterator[Prediction]:
        """Detect on every record; all test stages come from one pass."""
        reader = ImageReader(run)
        for record in records:
            yield predict_one(model, record, reader.test_image(record))


@torch.inference_mode()
def predict_one(model: GeneralizedRCNN, record: ImageRecord, image: dict[str, Any]) -> Prediction:
    """Run one resized image through the detector, which must be in evaluation mode."""
    images = model.preprocess_image([image])
    features = model.backbone(images.tensor)
    (proposals,), _ = model.proposal_generator(images, features, None)
    heads = model.roi_heads
    outputs = heads.run_stages(features, proposals)
    found = {}
    stages = cascade_test_stages(heads.num_cascade_stages)
    for stage, boxes, scores in boxes_and_scores(stages, outputs):
        predictor = heads.box_predictor[stage.boxes - 1]
        (detected,), _ = fast_rcnn_inference(
            [boxes], [scores], images.image_sizes, predictor.test_score_thresh, predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )  # fmt: skip
        found[stage.label] = on_original(detected, record)
    objectness = proposals.objectness_logits.sigmoid()
    as_detections = Instances(
        proposals.image_size,
        pred_boxes=proposals.proposal_boxes,
        scores=objectness,
        pred_classes=torch.zeros_like(objectness, dtype=torch.long),
    )
    return Prediction(record.id, on_original(as_detections, record), found)


def on_original(detected: Instances, record: ImageRecord) -> Detections:
    """Scale boxes to the original image, clip them to it and drop what has no area; `detected` is used up."""
    scaled = detector_postprocess(detected, record.height, record.width)
    return Detections(
        _array(scaled.pred_boxes.tensor, np.float32),
        _array(scaled.scores, np.float32),
        _array(scaled.pred_classes, np.int64),
    )


def _array(tensor: Tensor, dtype: type) -> np.ndarray:
    return tensor.cpu().numpy().astype(dtype)


ADAPTER = Detectron2Adapter()
