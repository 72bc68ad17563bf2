"""MMDetection's side of the contract."""

from collections.abc import Iterator, Sequence
from functools import partial

import mmcv
import mmdet
import mmengine
import torch
from mmcv.ops import batched_nms  # noqa: F401 (fails here, early, if mmcv has no operators)
from mmdet.models.layers import multiclass_nms
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from adapters.contract import Control, Detections, Prediction
from adapters.mmdet import training, weights
from adapters.mmdet.assembly import Built, build
from adapters.mmdet.candidates import candidates_of, noted_candidates
from adapters.mmdet.config import build_detector
from adapters.mmdet.controls import read_controls
from adapters.mmdet.cost import trace_parts
from adapters.mmdet.data import TrainingDataset, image_fields, test_transforms
from adapters.mmdet.operators import operators_in_use
from adapters.prediction.given_proposals import GivenProposals, swapped
from adapters.prediction.image_observations import image_observation
from adapters.prediction.original_image import on_original
from adapters.prediction.score_rules import boxes_and_scores
from adapters.training.training_loader import training_loader
from adapters.training.training_session import TrainingSession
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder
from cascadebench.diagnostics.observations import ImageObservation
from cascadebench.study.run import Run

PROPOSALS = "proposals"
"""Key of the proposals beside those of the test stages."""


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

    def common_name(self, name: str, run: Run | None = None) -> str | None:
        """Translate a name of the model's state dict."""
        return weights.common_names(run)(name) if run else weights.common_name(name)

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
    def predict(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], given: GivenProposals | None = None
    ) -> Iterator[Prediction]:
        """Detect on every record; all test stages come from one pass."""
        transforms = test_transforms(run)
        for record in records:
            batch = model.data_preprocessor(pseudo_collate([transforms(image_fields(record))]), False)
            yield predict_one(run, model, record, batch, given)


def predict_one(
    run: Run, model: nn.Module, record: ImageRecord, batch: dict, given: GivenProposals | None = None
) -> Prediction:
    """Run one preprocessed image through the detector, with its own proposals or with given ones."""
    sample = batch["data_samples"][0]
    features = model.extract_feat(batch["inputs"])
    with noted_candidates(model.rpn_head) as candidates:
        proposed = model.rpn_head.predict(features, batch["data_samples"], rescale=False)[0]
    proposals, objectness = swapped(proposed.bboxes, proposed.scores, given, record, sample.img_shape)
    stages = run.variant.test_stages
    outputs = model.roi_head.run_stages(features, proposals, sample.img_shape, stages)
    rows = {stage.label: detect(model, *both) for stage, *both in boxes_and_scores(stages, outputs)}
    masked, probabilities = getattr(model.roi_head, "mask_test_stage", None), None
    if masked in rows:
        boxes, _, labels = rows[masked]
        probabilities = model.roi_head.mask_probabilities(features, boxes, labels)
    rows[PROPOSALS] = (proposals, objectness, torch.zeros_like(objectness, dtype=torch.long))
    original = partial(original_boxes, sample=sample, record=record)
    found = on_original(rows, original, record, masked, probabilities)

    @torch.inference_mode()
    def observe(with_candidates: bool) -> ImageObservation:
        before_nms = candidates_of(candidates[0]) if with_candidates else None
        return image_observation(record.id, objectness, outputs, original, before_nms)

    @torch.inference_mode()
    def quality() -> dict[str, Detections]:
        cells = model.roi_head.quality(outputs, sample.img_shape)
        return on_original({cell.label: detect(model, *both) for cell, *both in cells}, original, record)

    return Prediction(record.id, found.pop(PROPOSALS), found, observe, quality)


def detect(model: nn.Module, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Filter by score, suppress and keep the best: boxes [N, 4], scores [N] and labels [N]."""
    config = model.test_cfg.rcnn
    rows, labels = multiclass_nms(boxes, scores, config.score_thr, config.nms, config.max_per_img)
    return rows[:, :4], rows[:, 4], labels


def original_boxes(boxes: Tensor, sample: DetDataSample, record: ImageRecord) -> Tensor:
    """Scale boxes [N, 4] to the original image and clip them to it."""
    boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
    limits = boxes.new_tensor([record.width, record.height]).repeat(2)
    return torch.minimum(boxes.clamp(min=0), limits)


ADAPTER = MMDetectionAdapter()
