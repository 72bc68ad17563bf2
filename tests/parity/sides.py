"""The same questions, asked of each framework: what the parity tests compare.

Every function takes the framework's model and a batch of images as uint8 arrays [H, W, 3], red first. A side that is
made with a run also knows the names of the layers that its variant adds.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from cascadebench.detectors.inference_stages import all_test_stages
from cascadebench.study.run import Run

MASKED = 20
"""Boxes of an image on which mask branches are run."""


@dataclass
class Inference:
    """What one forward pass in test mode gives, image by image where it matters."""

    features: list[Tensor]
    proposals: list[Tensor]
    objectness: list[Tensor]
    boxes: list[list[Tensor]]
    logits: list[list[Tensor]]
    last_logits: list[list[Tensor]]
    mask_logits: list[list[Tensor]] = field(default_factory=list)
    """Of every mask branch on the last boxes; empty without masks."""


@dataclass
class Step:
    """Losses and gradients of one training step, by common names."""

    losses: dict[str, float]
    gradients: dict[str, Tensor]


def bitmaps(boxes: Tensor, height: int, width: int) -> Tensor:
    """Masks of ground truth, uint8 [N, height, width]: the ellipse in every box."""
    x, y = torch.arange(width) + 0.5, torch.arange(height)[:, None] + 0.5
    left, top, right, bottom = (side[:, None, None] for side in boxes.T)
    across, down = ((2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top))
    return (across**2 + down**2 <= 1).to(torch.uint8)


def _gradients(model: nn.Module, common_name) -> dict[str, Tensor]:
    return {
        common_name(name): parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


class MMDetectionSide:
    """MMDetection's answers."""

    framework = "mmdet"

    def __init__(self, run: Run) -> None:
        from adapters.mmdet.adapter import ADAPTER

        self.adapter, self.common_name = ADAPTER, ADAPTER.common_names(run)

    def _batch(self, model: nn.Module, images: list[np.ndarray], truth=None) -> dict:
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        samples = []
        for number, image in enumerate(images):
            size = image.shape[:2]
            sample = DetDataSample(metainfo={"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)})
            if truth:
                boxes, labels = truth[number]
                sample.gt_instances = InstanceData(
                    bboxes=boxes.clone(), labels=labels.clone(), masks=bitmaps(boxes, *size)
                )
                sample.ignored_instances = InstanceData(bboxes=boxes[:0].clone(), labels=labels[:0].clone())
            samples.append(sample)
        # MMDetection reads blue first.
        inputs = [torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy()) for image in images]
        return model.data_preprocessor({"inputs": inputs, "data_samples": samples}, training=bool(truth))

    @torch.no_grad()
    def infer(self, model: nn.Module, images: list[np.ndarray], given: list[Tensor] | None = None) -> Inference:
        """Run in test mode; the stages take the model's own proposals, or given ones, float [R, 4] for every image."""
        model.eval()
        batch = self._batch(model, images)
        features = model.extract_feat(batch["inputs"])
        proposals = model.rpn_head.predict(features, batch["data_samples"], rescale=False)
        stages = all_test_stages(model.roi_head.regressors, model.roi_head.classifiers)
        entering = given or [found.bboxes for found in proposals]
        outputs = [
            model.roi_head.run_stages(tuple(level[i : i + 1] for level in features), boxes, images[i].shape[:2], stages)
            for i, boxes in enumerate(entering)
        ]
        return Inference(
            list(features),
            [found.bboxes for found in proposals],
            [found.scores for found in proposals],
            [one.boxes for one in outputs],
            [one.logits for one in outputs],
            [one.last_logits for one in outputs],
            [
                model.roi_head.mask_logits(tuple(level[i : i + 1] for level in features), one.boxes[-1][:MASKED])
                for i, one in enumerate(outputs)
                if model.roi_head.with_mask
            ],
        )

    def step(self, model: nn.Module, images: list[np.ndarray], truth: list[tuple[Tensor, Tensor]]) -> Step:
        """Forward and backward in training mode."""
        from adapters.mmdet.training import loss_name

        model.train()
        model.zero_grad()
        batch = self._batch(model, images, truth)
        total, terms = model.parse_losses(model.loss(batch["inputs"], batch["data_samples"]))
        total.backward()
        losses = {loss_name(name): float(value.detach()) for name, value in terms.items() if "loss_" in name}
        return Step(losses, _gradients(model, self.common_name))


class Detectron2Side:
    """Detectron2's answers."""

    framework = "detectron2"

    def __init__(self, run: Run) -> None:
        from adapters.detectron2.adapter import ADAPTER

        self.adapter, self.common_name = ADAPTER, ADAPTER.common_names(run)

    def _batch(self, images: list[np.ndarray], truth=None) -> list[dict]:
        from detectron2.structures import Boxes, Instances

        batch = []
        for number, image in enumerate(images):
            item = {"image": torch.from_numpy(image.transpose(2, 0, 1).copy())}
            if truth:
                boxes, labels = truth[number]
                item["instances"] = Instances(
                    image.shape[:2],
                    gt_boxes=Boxes(boxes.clone()),
                    gt_classes=labels.clone(),
                    bitmaps=bitmaps(boxes, *image.shape[:2]),
                )
            batch.append(item)
        return batch

    @torch.no_grad()
    def infer(self, model: nn.Module, images: list[np.ndarray], given: list[Tensor] | None = None) -> Inference:
        """Run in test mode; the stages take the model's own proposals, or given ones, float [R, 4] for every image."""
        model.eval()
        tensor = model.preprocess_image(self._batch(images))
        features = model.backbone(tensor.tensor)
        proposals, _ = model.proposal_generator(tensor, features, None)
        heads = model.roi_heads
        test_stages = all_test_stages(heads.regressors, heads.classifiers)
        entering = given or [found.proposal_boxes.tensor for found in proposals]
        outputs = [
            heads.run_stages(
                {name: level[i : i + 1] for name, level in features.items()}, boxes, images[i].shape[:2], test_stages
            )
            for i, boxes in enumerate(entering)
        ]
        return Inference(
            list(features.values()),
            [found.proposal_boxes.tensor for found in proposals],
            [found.objectness_logits.sigmoid() for found in proposals],
            [one.boxes for one in outputs],
            [one.logits for one in outputs],
            [one.last_logits for one in outputs],
            [
                heads.mask_logits({name: level[i : i + 1] for name, level in features.items()}, one.boxes[-1][:MASKED])
                for i, one in enumerate(outputs)
                if hasattr(heads, "mask_heads")
            ],
        )

    def step(self, model: nn.Module, images: list[np.ndarray], truth: list[tuple[Tensor, Tensor]]) -> Step:
        """Forward and backward in training mode."""
        from detectron2.utils.events import EventStorage

        from adapters.detectron2.training import loss_name

        model.train()
        model.zero_grad()
        with EventStorage():
            terms = model(self._batch(images, truth))
        sum(terms.values()).backward()
        losses = {loss_name(name): float(value.detach()) for name, value in terms.items()}
        return Step(losses, _gradients(model, self.common_name))
