"""MMDetection's side of the contract."""

from collections.abc import Iterator, Sequence

import mmcv
import mmdet
import mmengine
import numpy as np
import torch
from mmcv.ops import batched_nms  # noqa: F401 (fails here, early, if mmcv has no operators)
from mmdet.models.layers import multiclass_nms
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from adapters.contract import Control, Detections, Prediction
from adapters.mmdet import training, weights
from adapters.mmdet.built import Built, build
from adapters.mmdet.config import build_detector
from adapters.mmdet.controls import read_controls
from adapters.mmdet.cost import trace_parts
from adapters.mmdet.data import TrainingDataset, image_fields, test_transforms
from adapters.mmdet.operators import operators_in_use
from adapters.score_rules import boxes_and_scores
from adapters.training_loader import training_loader
from adapters.training_session import TrainingSession
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.run import Run
from cascadebench.training_order import TrainingOrder


class MMDetectionAdapter:
    """Keeps :class:`adapters.contract.Adapter`."""

    def versions(self) -> dict[str, str]:
        """Versions of OpenMMLab's packages and what serves mmcv's operators."""
        return {
            "mmdet": mmdet.__version__,
            "mmcv": mmcv.__version__,
            "mmengine": mmengine.__version__,
            "mmcv operators": operators_in_use(),
        }

    def build_model(self, run: Run) -> nn.Module:
        """Build the detector with initial weights."""
        return build_detector(run)

    def load_backbone_weights(self, model: nn.Module, run: Run) -> None:
        """Fill the backbone from the run's file."""
        weights.load_backbone_weights(model, run)

    def build(self, run: Run) -> Built:
        """Build everything that training and testing use."""
        return build(run)

    def read_controls(self, built: Built) -> list[Control]:
        """Read the effective values back."""
        return read_controls(built)

    def common_name(self, name: str) -> str | None:
        """Translate a name of the model's state dict."""
        return weights.common_name(name)

    def trace_parts(
        self, model: nn.Module, run: Run, width: int, height: int, rois: int
    ) -> list[tuple[nn.Module, tuple]]:
        """Split one inference into parts that can be traced."""
        return trace_parts(model, run.variant.headline, width, height, rois)

    def train(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], order: TrainingOrder, session: TrainingSession
    ) -> None:
        """Train with MMEngine's runner."""
        loader = training_loader(TrainingDataset(run, records, order), order, session, pseudo_collate)
        training.train(run, model, loader, session)

    @torch.inference_mode()
    def predict(self, run: Run, model: nn.Module, records: Sequence[ImageRecord]) -> Iterator[Prediction]:
        """Detect on every record; all test stages come from one pass."""
        transforms = test_transforms(run)
        for record in records:
            batch = model.data_preprocessor(pseudo_collate([transforms(image_fields(record))]), False)
            yield predict_one(run, model, record, batch)


def predict_one(run: Run, model: nn.Module, record: ImageRecord, batch: dict) -> Prediction:
    """Run one preprocessed image through the detector."""
    sample = batch["data_samples"][0]
    features = model.extract_feat(batch["inputs"])
    proposals = model.rpn_head.predict(features, batch["data_samples"], rescale=False)[0]
    stages = run.variant.test_stages
    outputs = model.roi_head.run_stages(features, proposals.bboxes, sample.img_shape, stages)
    found = {}
    for stage, boxes, scores in boxes_and_scores(stages, outputs):
        rows, labels = multiclass_nms(
            boxes, scores, model.test_cfg.rcnn.score_thr, model.test_cfg.rcnn.nms, model.test_cfg.rcnn.max_per_img
        )
        found[stage.label] = on_original(rows[:, :4], rows[:, 4], labels, sample, record)
    no_labels = proposals.scores.new_zeros(len(proposals.scores), dtype=torch.long)
    return Prediction(record.id, on_original(proposals.bboxes, proposals.scores, no_labels, sample, record), found)


def on_original(boxes: Tensor, scores: Tensor, labels: Tensor, sample, record: ImageRecord) -> Detections:
    """Scale boxes to the original image, clip them to it and drop what has no area, as Detectron2 does after NMS."""
    boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
    limits = boxes.new_tensor([record.width, record.height]).repeat(2)
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return Detections(
        boxes[keep].cpu().numpy().astype(np.float32),
        scores[keep].cpu().numpy().astype(np.float32),
        labels[keep].cpu().numpy().astype(np.int64),
    )


ADAPTER = MMDetectionAdapter()
