"""One dialect for what tests ask of RoI heads in each framework: names of weights and losses are the common ones."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from unittest.mock import patch
from zlib import crc32

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou
from trainings import run_of

import adapters.mmdet  # noqa: F401 (before MMDetection: it provides mmcv's operators)
from adapters.commands import load_adapter
from adapters.inspection.probe_inputs import probe_features
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.study.run import Run

CHANNELS, WIDTH, CLASSES, SIZE, IMAGES = 64, 128, 5, (128, 128), 2
TRUTH = torch.tensor([[10.0, 12.0, 60.0, 70.0], [70.0, 20.0, 120.0, 90.0]])
LABELS = torch.tensor([0, 3])


@dataclass
class Call:
    """What one task of one stage puts into its loss."""

    values: Tensor
    """Logits or deltas."""
    rois: Tensor
    """Image, x1, y1, x2, y2."""
    labels: Tensor
    targets: Tensor | None
    """What a regressor is to learn; whatever it is for the negatives."""

    @property
    def positive(self) -> Tensor:
        """Whether each RoI is positive."""
        return self.labels < CLASSES

    @property
    def overlaps(self) -> Tensor:
        """IoU of every RoI with the ground truth that it overlaps most."""
        return box_iou(self.rois[:, 1:], TRUTH).max(1).values

    @property
    def truths(self) -> int:
        """How many RoIs are ground truth itself."""
        return int((self.rois[:, None, 1:] == TRUTH).all(2).any(1).sum())

    def boxes(self, image: int) -> Tensor:
        """RoIs of one image, [R, 4]."""
        return self.rois[self.rois[:, 0] == image, 1:]


@dataclass
class Training:
    """One training of the RoI heads: losses by common name, calls by task and stage from 0, and the pyramid's maps."""

    losses: dict[str, Tensor]
    calls: dict[tuple[str, int], Call]
    features: list[Tensor]


class Detector:
    """A run's model in training mode, whose weights are moved by noise that depends on their common names."""

    def __init__(self, run: Run, noise: float = 0.0) -> None:
        self.run, self.adapter = run, load_adapter(run.framework)
        self.model = self.adapter.build_model(run).train()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                random = torch.Generator().manual_seed(crc32(name.encode()))
                parameter.add_(noise * torch.randn(parameter.shape, generator=random))

    @cached_property
    def names(self) -> dict[str, str]:
        """From the common name of every parameter to its own."""
        common_name = self.adapter.common_names(self.run)
        return {common_name(name): name for name, _ in self.model.named_parameters()}

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter by its common name."""
        return {common: self.model.get_parameter(name) for common, name in self.names.items()}

    def of(self, start: str) -> list[nn.Parameter]:
        """Parameters whose common names begin so."""
        return [parameter for name, parameter in self.parameters.items() if name.startswith(start)]

    def layer(self, name: str) -> nn.Module:
        """The layer with a common name."""
        return self.model.get_submodule(self.names[f"{name}.weight"].rpartition(".")[0])

    def outputs(self, stage: int, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and deltas that a stage's outputs, from 0, give of one feature for both."""
        return tuple(self.layer(f"heads.{stage + 1}.{part}")(feature) for part in ("classifier", "regressor"))

    def train(self, first: Tensor, second: Tensor | None = None) -> Training:
        """Train the heads on two images of the same proposals; `second`: others for regression."""
        features = [level.requires_grad_() for level in probe_features(CHANNELS)]
        calls: dict[tuple[str, int], Call] = {}
        torch.manual_seed(0)
        with ExitStack() as patches:
            losses = self._train_heads(features, first, first if second is None else second, calls, patches)
        return Training(losses, calls, features)

    def run_stages(self, boxes: Tensor, features: list[Tensor] | None = None):
        """Run the stages at test on boxes of one image."""
        with torch.no_grad():
            return self.heads.run_stages(self.maps(features), boxes, SIZE, self.run.variant.test_stages)

    def pooled(self, stage: int, rois: Tensor) -> Tensor:
        """Pool RoIs [R, 5] of the images that :meth:`train` has, without a gradient."""
        maps = probe_features(CHANNELS)
        parts = [(rois[rois[:, 0] == image, 1:], [level[image : image + 1] for level in maps]) for image in (0, 1)]
        with torch.no_grad():
            return torch.cat([self.heads.pooled_alone(stage, self.maps(levels), boxes) for boxes, levels in parts])

    def step(self, records: list[ImageRecord]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses and gradients of one training step of the whole detector on images, by common name."""
        self.model.train().zero_grad()
        torch.manual_seed(0)
        reader = import_module(f"adapters.{self.run.framework}.data").ImageReader(self.run)
        total, losses = self._losses([reader.training_image(record, 128, flip=False) for record in records])
        total.backward()
        common_loss = import_module(f"adapters.{self.run.framework}.training").loss_name
        gradients = {name: one.grad for name, one in self.parameters.items() if one.grad is not None}
        return {common_loss(name): loss for name, loss in losses.items()}, gradients

    def predictions(self, records) -> Iterator:
        """Detect on images."""
        return self.adapter.predict(self.run, self.model.eval(), records)


class MMDetectionDetector(Detector):
    """MMDetection's answers."""

    nms_in = "mmdet.models.dense_heads.rpn_head.batched_nms"

    @property
    def heads(self) -> nn.Module:
        return self.model.roi_head

    def propose(self, images: Tensor) -> list:
        """For every image boxes [R, 4] that leave the RPN; of two lists in training: a pair of them."""
        features, rpn = self.model.extract_feat(images), self.model.rpn_head
        if not self.model.training:
            return [found.bboxes for found in rpn.predict(features, self.samples())]
        _, lists = rpn.loss_and_predict(features, self.samples(), self.model.train_cfg.rpn_proposal)
        return [[found.bboxes for found in pair] for pair in lists]

    def propose_above(self, side: float) -> None:
        """Drop proposals with a side that is not greater."""
        for config in (self.model.train_cfg.rpn_proposal, self.model.rpn_head.test_cfg):
            config["min_bbox_size"] = side

    def own_stage(self, stage: int, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and deltas of boxes of one image by the framework's own functions."""
        rois = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)
        return self.heads.bbox_head[stage](self.heads.bbox_roi_extractor[stage](self.maps()[:4], rois))

    def _losses(self, items: list) -> tuple[Tensor, dict[str, Tensor]]:
        from mmengine.dataset import pseudo_collate

        losses = self.model(**self.model.data_preprocessor(pseudo_collate(items), True), mode="loss")
        total, terms = self.model.parse_losses(losses)
        return total, {name: loss for name, loss in terms.items() if "loss_" in name}

    def maps(self, features: list[Tensor] | None = None) -> tuple[Tensor, ...]:
        """Maps of one image as the framework holds them."""
        return tuple(probe_features(CHANNELS, 1) if features is None else features)

    def samples(self) -> list:
        """Two images with ground truth."""
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        made = [DetDataSample(metainfo={"img_shape": SIZE, "pad_shape": SIZE}) for _ in range(IMAGES)]
        for sample in made:
            sample.gt_instances = InstanceData(bboxes=TRUTH.clone(), labels=LABELS.clone())
            sample.ignored_instances = InstanceData(bboxes=TRUTH[:0], labels=LABELS[:0])
        return made

    def _train_heads(self, features, first, second, calls, patches) -> dict[str, Tensor]:
        from mmengine.structures import InstanceData

        from adapters.mmdet.sampling import DecoupledRoIHeads
        from adapters.mmdet.training import loss_name

        def recorded(number, loss):
            def record(logits, deltas, rois, labels, weights, targets, *others, **named):
                for task, values in (("classification", logits), ("regression", deltas)):
                    if values is not None:
                        calls[task, number] = Call(values, rois, labels, targets)
                return loss(logits, deltas, rois, labels, weights, targets, *others, **named)

            return record

        for number, head in enumerate(self.heads.bbox_head):
            patches.enter_context(patch.object(head, "loss", recorded(number, head.loss)))
        given = [tuple(InstanceData(bboxes=boxes.clone()) for boxes in (first, second)) for _ in range(IMAGES)]
        if not isinstance(self.heads, DecoupledRoIHeads):
            given = [both[0] for both in given]
        losses = self.heads.loss(tuple(features), given, self.samples())
        return {loss_name(name): value for name, value in losses.items() if "loss_" in name}

    @property
    def iou_thresholds(self) -> list[float]:
        """From which IoU on a RoI is positive, stage by stage."""
        return [assigner.pos_iou_thr for assigner in self.heads.bbox_assigner]

    @property
    def target_stds(self) -> list[list[float]]:
        """What divides the deltas, stage by stage."""
        return [list(head.bbox_coder.stds) for head in self.heads.bbox_head]

    def feature(self, head: int, pooled: Tensor) -> Tensor:
        """What the layers of a head, from 0, make of pooled RoIs."""
        return self.heads.bbox_head[head].features(pooled)[0]


class Detectron2Detector(Detector):
    """Detectron2's answers."""

    nms_in = "detectron2.modeling.proposal_generator.proposal_utils.batched_nms"

    @property
    def heads(self) -> nn.Module:
        return self.model.roi_heads

    def propose(self, images: Tensor) -> list:
        """For every image boxes [R, 4] that leave the RPN; of two lists in training: a pair of them."""
        from detectron2.structures import ImageList
        from detectron2.utils.events import EventStorage

        given = ImageList(images, [SIZE] * IMAGES), self.model.backbone(images)
        with EventStorage():
            found, _ = self.model.proposal_generator(*given, self.samples() if self.model.training else None)
        if not self.model.training:
            return [one.proposal_boxes.tensor for one in found]
        return [[one.proposal_boxes.tensor for one in pair] for pair in found]

    def propose_above(self, side: float) -> None:
        """Drop proposals with a side that is not greater."""
        self.model.proposal_generator.min_box_size = side

    def own_stage(self, stage: int, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and deltas of boxes of one image by the framework's own functions."""
        return self.heads._run_stage(list(self.maps().values()), [self.proposals(boxes)], stage)

    def _losses(self, items: list) -> tuple[Tensor, dict[str, Tensor]]:
        from detectron2.utils.events import EventStorage

        with EventStorage():
            losses = self.model(items)
        return sum(losses.values()), losses

    def maps(self, features: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Maps of one image as the framework holds them."""
        levels = probe_features(CHANNELS, 1) if features is None else features
        return dict(zip(self.heads.box_in_features, levels, strict=False))

    def samples(self) -> list:
        """Ground truth of two images."""
        from detectron2.structures import Boxes, Instances

        return [Instances(SIZE, gt_boxes=Boxes(TRUTH.clone()), gt_classes=LABELS.clone()) for _ in range(IMAGES)]

    def proposals(self, boxes: Tensor):
        """Boxes as the RPN gives them."""
        from detectron2.structures import Boxes, Instances

        return Instances(SIZE, proposal_boxes=Boxes(boxes.clone()), objectness_logits=torch.zeros(len(boxes)))

    def _train_heads(self, features, first, second, calls, patches) -> dict[str, Tensor]:
        from detectron2.utils.events import EventStorage

        from adapters.detectron2.sampling import DecoupledRoIHeads
        from adapters.detectron2.training import loss_name

        def recorded(stage, predictor):
            plain = predictor.losses

            def record(predictions, proposals):
                sizes = torch.tensor([len(one) for one in proposals])
                boxes = torch.cat([one.proposal_boxes.tensor for one in proposals])
                rois = torch.cat([torch.arange(len(sizes)).repeat_interleave(sizes)[:, None].to(boxes), boxes], 1)
                labels = torch.cat([one.gt_classes for one in proposals])
                truth = torch.cat([one.gt_boxes.tensor for one in proposals])
                targets = predictor.box2box_transform.get_deltas(boxes, truth)
                for task, values in zip(("classification", "regression"), predictions, strict=True):
                    if values is not None:
                        calls[task, stage] = Call(values, rois, labels, targets)
                return plain(predictions, proposals)

            return record

        patches.enter_context(EventStorage())
        for stage, predictor in enumerate(self.heads.box_predictor):
            patches.enter_context(patch.object(predictor, "losses", recorded(stage, predictor)))
        pairs = [(self.proposals(first), self.proposals(second)) for _ in range(IMAGES)]
        given = pairs if isinstance(self.heads, DecoupledRoIHeads) else [both[0] for both in pairs]
        _, losses = self.heads(None, self.maps(features), given, self.samples())
        return {loss_name(name): value for name, value in losses.items()}

    @property
    def iou_thresholds(self) -> list[float]:
        """From which IoU on a RoI is positive, stage by stage."""
        assert self.heads.proposal_matcher.thresholds == self.heads.proposal_matchers[0].thresholds
        return [matcher.thresholds[1] for matcher in self.heads.proposal_matchers]

    @property
    def target_stds(self) -> list[list[float]]:
        """What divides the deltas, stage by stage."""
        return [[1 / weight for weight in one.box2box_transform.weights] for one in self.heads.box_predictor]

    def feature(self, head: int, pooled: Tensor) -> Tensor:
        """What the layers of a head, from 0, make of pooled RoIs."""
        return self.heads.box_head[head](pooled)


DETECTORS = {"mmdet": MMDetectionDetector, "detectron2": Detectron2Detector}


def without_numbers(run: Run) -> nn.Module:
    """A detector that has shapes alone."""
    with torch.device("meta"):
        return load_adapter(run.framework).build_detector(run).eval()


def detector(framework: str, variant: str, noise: float = 0.0, **options) -> Detector:
    """A variant of the embedded study with the common initial weights and as much noise."""
    return DETECTORS[framework](run_of(framework, variant, **options), noise)


def crowd(positives: int, negatives: int, spread: float = 4.0) -> Tensor:
    """Boxes of which so many lie within half of `spread` pixels around ground truth, and the others apart from it."""
    random = torch.Generator().manual_seed(0)
    near = TRUTH[torch.arange(positives) % 2] + spread * (torch.rand(positives, 4, generator=random) - 0.5)
    corner = 25 * torch.rand(negatives, 2, generator=random) + torch.tensor([0.0, 96.0])
    far = torch.cat([corner, corner + 3 + 3 * torch.rand(negatives, 2, generator=random)], 1)
    return torch.cat([near, far])


def same_boxes(one: Tensor, other: Tensor) -> bool:
    """Whether two sets of boxes [N, 4] are the same, in whatever order, to a thousandth of a pixel."""
    distances = torch.cdist(one, other, p=float("inf"))
    return len(one) == len(other) and max(distances.min(0).values.max(), distances.min(1).values.max()) < 1e-3


def moved(boxes: Tensor, deltas: Tensor, stds: list[float]) -> Tensor:
    """Boxes [N, 4] as normalized deltas [N, 4] move them, clipped to the image; the frameworks' formula once more."""
    x, y, log_width, log_height = (deltas * torch.tensor(stds)).unbind(1)
    size = boxes[:, 2:] - boxes[:, :2]
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 + torch.stack([x, y], 1) * size
    half = size * torch.stack([log_width, log_height], 1).exp() / 2
    return torch.cat([center - half, center + half], 1).clamp(0, SIZE[0])


def gradients(total: Tensor, parameters: list) -> tuple[Tensor | None, ...]:
    """Gradients of a number; None where it does not reach."""
    return torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
