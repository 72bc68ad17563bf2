"""Detectron2's models and inputs for the tests of the variants."""

from collections.abc import Sequence
from contextlib import ExitStack
from unittest.mock import patch

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor

from adapters.detectron2.adapter import ADAPTER
from adapters.detectron2.data import ImageReader
from adapters.detectron2.stages import ControlledRoIHeads
from adapters.training.seeding import seed_everything
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.study.run import Run

SIZE = (128, 128)
CLASSES = 5


def build(run: Run, noise: float = 0.0) -> GeneralizedRCNN:
    """Build a detector whose weights are moved by as much noise, the same for weights of one name."""
    seed_everything(0)
    model = ADAPTER.build_model(run)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            random = torch.Generator().manual_seed(len(name) + 7 * sum(map(ord, name)))
            parameter.add_(noise * torch.randn(parameter.shape, generator=random))
    return model


def losses_of(model: GeneralizedRCNN, run: Run, records: Sequence[ImageRecord]) -> dict[str, Tensor]:
    """Losses of one step of training on some images."""
    reader = ImageReader(run)
    model.train()
    model.zero_grad()
    seed_everything(0)
    with EventStorage():
        return model([reader.training_image(record, 128, flip=False) for record in records])


def gradients_of(model: GeneralizedRCNN, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of the sum of the losses by the parameters' names."""
    sum(losses.values()).backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def maps(heads: ControlledRoIHeads, images: int = 1, channels: int = 64) -> dict[str, Tensor]:
    """Random pyramid maps of 128 x 128 images that want a gradient."""
    random = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(images, channels, 32 // 2**level, 32 // 2**level, generator=random).requires_grad_()
        for level, name in enumerate(heads.box_in_features)
    }


def truth() -> Instances:
    """Ground truth of one image: two boxes."""
    boxes = torch.tensor([[10.0, 10.0, 60.0, 70.0], [70.0, 40.0, 120.0, 100.0]])
    return Instances(SIZE, gt_boxes=Boxes(boxes), gt_classes=torch.tensor([1, 3]))


def proposals(positives: int, negatives: int, seed: int = 0, spread: float = 6.0) -> Instances:
    """Proposals as near as `spread` pixels to the ground truth, with 6 at an IoU above 0.5, and far from it."""
    random = torch.Generator().manual_seed(seed)
    near = truth().gt_boxes.tensor.repeat(positives, 1)[:positives] + spread * torch.rand(
        positives, 4, generator=random
    )
    corner = 20 * torch.rand(negatives, 2, generator=random) + torch.tensor([80.0, 5.0])
    far = torch.cat([corner, corner + 10 + 5 * torch.rand(negatives, 2, generator=random)], 1)
    boxes = torch.cat([near, far])
    return Instances(SIZE, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(len(boxes)))


class Watched:
    """What entered the losses of a training of RoI heads.

    Attributes
    ----------
    losses : dict of str to Tensor
        As Detectron2 names them.
    entered : dict of (str, int) to (Tensor, list of Instances)
        By ``loss_cls`` or ``loss_box_reg`` and the stage: predictions and the RoIs that they belong to.
    """

    def __init__(self, heads: ControlledRoIHeads, features: dict[str, Tensor], given: list) -> None:
        heads.train()
        seed_everything(0)
        with EventStorage(), ExitStack() as spies:
            watched = [
                spies.enter_context(patch.object(one, "losses", wraps=one.losses)) for one in heads.box_predictor
            ]
            _, self.losses = heads(None, features, given, [truth() for _ in given])
        self.entered = {
            (term, stage): (prediction, call.args[1])
            for stage, spy in enumerate(watched)
            for call in spy.call_args_list
            for term, prediction in zip(("loss_cls", "loss_box_reg"), call.args[0], strict=True)
            if prediction is not None
        }

    def rois(self, term: str, stage: int) -> tuple[Tensor, Tensor]:
        """Boxes [R, 4] and labels [R] that entered a loss."""
        parts = self.entered[term, stage][1]
        return torch.cat([one.proposal_boxes.tensor for one in parts]), torch.cat([one.gt_classes for one in parts])
