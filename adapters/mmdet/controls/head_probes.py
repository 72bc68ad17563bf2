"""MMDetection's heads, as the probes ask for them."""

from functools import partial

from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from adapters.inspection.head_probes import IMAGE, HeadStep, ProbedHeads, recorded
from adapters.inspection.probe_inputs import probe_bitmaps
from adapters.mmdet.sampling import DecoupledRoIHeads
from adapters.mmdet.stages import ControlledRoIHeads
from adapters.training.assembly import Built


def probed_heads(built: Built) -> ProbedHeads:
    """Let the probes ask the heads of what was built."""
    heads = built.model.roi_head
    first = heads.bbox_head[0]
    return ProbedHeads(
        heads,
        built.model.neck.out_channels,
        [_layers(head) for head in heads.bbox_head],
        heads.bbox_sampler[0].num,
        (first.fc_reg.bias, first.bbox_coder.stds[0]),
        partial(_alone, heads),
        partial(_train, heads),
    )


def _layers(head: nn.Module) -> list[nn.Module]:
    """Everything of a head before its outputs."""
    connected = [layer for name in ("shared_fcs", "cls_fcs", "reg_fcs") for layer in getattr(head, name, ())]
    convolutions = getattr(head, "regression_convolutions", None)
    return connected if convolutions is None else [*connected, *convolutions.blocks]


def stage_of(heads: ControlledRoIHeads, head: int) -> int:
    """The stage whose RoIs a head reads: its own, or the first one's for a further classifier."""
    return head if head < heads.num_stages else 0


def _alone(heads: ControlledRoIHeads, head: int, features: list[Tensor], rois: Tensor) -> Tensor:
    """What a head's layers give of RoIs."""
    stage = stage_of(heads, head)
    extractor = heads.bbox_roi_extractor[stage]
    logits, deltas = heads.stage_outputs(stage, extractor(tuple(features)[: extractor.num_inputs], rois))
    return logits[head - stage] if logits else deltas


def _train(
    heads: ControlledRoIHeads, features: list[Tensor], proposals: Tensor, truth: Tensor, labels: Tensor
) -> HeadStep:
    """Train for one step."""
    step, images, classes = HeadStep(features), range(len(features[0])), heads.bbox_head[0].num_classes

    def note(head: int, losses: dict, logits: Tensor | None, deltas: Tensor | None, rois: Tensor, labels: Tensor, *_):
        both = losses.get("loss_cls"), losses.get("loss_bbox")
        step.note(head, logits, deltas, both, rois, labels < classes)

    given = [tuple(InstanceData(bboxes=proposals.clone()) for _ in range(2)) for _ in images]
    if not isinstance(heads, DecoupledRoIHeads):
        given = [first for first, _ in given]
    with recorded(heads.bbox_head, "loss", note):
        heads.loss(tuple(features), given, [_sample(truth, labels % classes) for _ in images])
    return step


def _sample(truth: Tensor, labels: Tensor) -> DetDataSample:
    """An image with ground truth."""
    sample = DetDataSample(metainfo={"img_shape": IMAGE, "pad_shape": IMAGE})
    sample.gt_instances = InstanceData(bboxes=truth.clone(), labels=labels, masks=probe_bitmaps(truth))
    sample.ignored_instances = InstanceData(bboxes=truth[:0], labels=labels[:0])
    return sample
