"""Detectron2's heads, as the probes ask for them."""

from functools import partial

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from adapters.detectron2.sampling import DecoupledRoIHeads
from adapters.detectron2.stages import ControlledRoIHeads
from adapters.inspection.head_probes import IMAGE, HeadStep, ProbedHeads, recorded
from adapters.inspection.probe_inputs import probe_bitmaps
from adapters.training.assembly import Built


def probed_heads(built: Built) -> ProbedHeads:
    """Let the probes ask the heads of what was built."""
    heads = built.model.roi_heads
    first = heads.box_predictor[0]
    layers = [_layers(head) for head in heads.box_head]
    return ProbedHeads(
        heads,
        built.model.backbone.output_shape()["p2"].channels,
        layers + [[]] * (len(heads.box_predictor) - len(layers)),  # further classifiers of a stage have none
        heads.batch_size_per_image,
        (first.bbox_pred.bias, 1 / first.box2box_transform.weights[0]),
        partial(_alone, heads),
        partial(_train, heads),
    )


def _layers(head: nn.Module) -> list[nn.Module]:
    """Everything of a head before its outputs."""
    return [layer for layer in head.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def _alone(heads: ControlledRoIHeads, head: int, features: list[Tensor], rois: Tensor) -> Tensor:
    """What a head's layers give of RoIs."""
    boxes = [Boxes(rois[rois[:, 0] == image, 1:]) for image in range(len(features[0]))]
    logits, deltas = heads.stage_forward(head, heads.box_pooler(list(heads.held(features).values()), boxes))
    return deltas if logits is None else logits


def _train(
    heads: ControlledRoIHeads, features: list[Tensor], proposals: Tensor, truth: Tensor, labels: Tensor
) -> HeadStep:
    """Train for one step."""
    step, images, classes = HeadStep(features), len(features[0]), heads.num_classes

    def note(head: int, losses: dict, predictions: tuple[Tensor | None, Tensor | None], rois: list[Instances]) -> None:
        both = losses.get("loss_cls"), losses.get("loss_box_reg")
        positive = torch.cat([image.gt_classes for image in rois]) < classes
        step.note(head, *predictions, both, _with_images(rois), positive)

    target = Instances(IMAGE, gt_boxes=Boxes(truth), gt_classes=labels % classes, bitmaps=probe_bitmaps(truth))
    given = Instances(IMAGE, proposal_boxes=Boxes(proposals), objectness_logits=torch.zeros(len(proposals)))
    given = (given, given) if isinstance(heads, DecoupledRoIHeads) else given
    with EventStorage(), recorded(heads.box_predictor, "losses", note):
        heads(None, heads.held(features), [given] * images, [target] * images)
    return step


def _with_images(rois: list[Instances]) -> Tensor:
    """RoIs of a batch as image, x1, y1, x2, y2."""
    boxes = [image.proposal_boxes.tensor for image in rois]
    return torch.cat([torch.cat([one.new_full((len(one), 1), number), one], 1) for number, one in enumerate(boxes)])
