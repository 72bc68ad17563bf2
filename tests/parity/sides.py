"""The same questions, asked of each framework: what the parity tests compare.

Every function takes the framework's model and a batch of images as uint8 arrays [H, W, 3], red first.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from adapters.commands import load_adapter
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


class Side:
    """A framework's answers; what is not implemented here, each framework gives."""

    framework: str

    def __init__(self, run: Run) -> None:
        self.run, self.adapter = run, load_adapter(self.framework)
        self.common_name = self.adapter.common_names(run)

    @torch.no_grad()
    def infer(self, model: nn.Module, images: list[np.ndarray], given: list[Tensor] | None = None) -> Inference:
        """Run in test mode; the stages take the model's own proposals, or given ones, float [R, 4] for every image."""
        heads, features, proposals, objectness = self._proposed(model.eval(), images)
        stages = all_test_stages(heads.regressors, heads.classifiers)
        maps = [self._maps_of_one(features, number) for number in range(len(images))]
        outputs = [
            heads.run_stages(*one, image.shape[:2], stages)
            for *one, image in zip(maps, given or proposals, images, strict=True)
        ]
        masks = zip(maps, outputs, strict=True) if self.run.variant.masks else ()
        return Inference(
            list(features.values() if isinstance(features, dict) else features),
            proposals,
            objectness,
            [one.boxes for one in outputs],
            [one.logits for one in outputs],
            [one.last_logits for one in outputs],
            [heads.mask_logits(levels, one.boxes[-1][:MASKED]) for levels, one in masks],
        )

    def step(self, model: nn.Module, images: list[np.ndarray], truth: list[tuple[Tensor, Tensor]]) -> Step:
        """Forward and backward in training mode."""
        model.train()
        model.zero_grad()
        total, losses = self._losses(model, images, truth)
        total.backward()
        own = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
        gradients = {self.common_name(name): gradient for name, gradient in own.items()}
        return Step({name: float(value.detach()) for name, value in losses.items()}, gradients)


class MMDetectionSide(Side):
    """MMDetection's answers."""

    framework = "mmdet"

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

    def _proposed(self, model: nn.Module, images: list[np.ndarray]):
        batch = self._batch(model, images)
        features = model.extract_feat(batch["inputs"])
        found = model.rpn_head.predict(features, batch["data_samples"], rescale=False)
        return model.roi_head, features, [one.bboxes for one in found], [one.scores for one in found]

    def _maps_of_one(self, features: tuple[Tensor, ...], number: int) -> tuple[Tensor, ...]:
        return tuple(level[number : number + 1] for level in features)

    def _losses(self, model: nn.Module, images: list[np.ndarray], truth) -> tuple[Tensor, dict[str, Tensor]]:
        from adapters.mmdet.training import loss_name

        total, terms = model.parse_losses(model(**self._batch(model, images, truth), mode="loss"))
        return total, {loss_name(name): value for name, value in terms.items() if "loss_" in name}


class Detectron2Side(Side):
    """Detectron2's answers."""

    framework = "detectron2"

    def _batch(self, images: list[np.ndarray], truth=None) -> list[dict]:
        from detectron2.structures import Boxes, Instances

        batch = [{"image": torch.from_numpy(image.transpose(2, 0, 1).copy())} for image in images]
        for item, image, (boxes, labels) in zip(batch, images, truth or (), strict=bool(truth)):
            size, masks = image.shape[:2], bitmaps(boxes, *image.shape[:2])
            item["instances"] = Instances(size, gt_boxes=Boxes(boxes.clone()), gt_classes=labels.clone(), bitmaps=masks)
        return batch

    def _proposed(self, model: nn.Module, images: list[np.ndarray]):
        tensor = model.preprocess_image(self._batch(images))
        features = model.backbone(tensor.tensor)
        found, _ = model.proposal_generator(tensor, features, None)
        objectness = [one.objectness_logits.sigmoid() for one in found]
        return model.roi_heads, features, [one.proposal_boxes.tensor for one in found], objectness

    def _maps_of_one(self, features: dict[str, Tensor], number: int) -> dict[str, Tensor]:
        return {name: level[number : number + 1] for name, level in features.items()}

    def _losses(self, model: nn.Module, images: list[np.ndarray], truth) -> tuple[Tensor, dict[str, Tensor]]:
        from detectron2.utils.events import EventStorage

        from adapters.detectron2.training import loss_name

        with EventStorage():
            terms = model(self._batch(images, truth))
        return sum(terms.values()), {loss_name(name): value for name, value in terms.items()}


SIDES = {side.framework: side for side in (MMDetectionSide, Detectron2Side)}
