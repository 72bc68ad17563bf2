"""Models, images with ground truth, and recorded losses: what the tests of MMDetection's variants share."""

import adapters.mmdet  # noqa: F401 (before MMDetection: it provides mmcv's operators)

# isort: split
import functools
from collections import defaultdict
from dataclasses import dataclass

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from adapters.inspection.probe_inputs import probe_features
from adapters.mmdet.adapter import ADAPTER
from adapters.mmdet.sampling import DecoupledRoIHeads
from adapters.mmdet.weights import common_name
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.study_loading import chosen_variant, load_study

CHANNELS, WIDTH, CLASSES = 64, 128, 5
TRUTH = torch.tensor([[10.0, 12.0, 60.0, 70.0], [70.0, 20.0, 120.0, 90.0]])
LABELS = torch.tensor([0, 3])


@functools.cache
def study_run(study):
    """MMDetection's first run of a study."""
    return next(planned.run for planned in load_study(study).runs if planned.run.framework == "mmdet")


def run_of(variant, study="tiny", **options):
    """A study's run with another variant."""
    found = find_variant(variant, "test")
    chosen = chosen_variant(found, found.card.complete_options(options, "test"), "test")
    return study_run(study).model_copy(update={"variant": chosen})


def model_of(variant, **options):
    """A variant with the common initial weights, in training mode."""
    return ADAPTER.build_model(run_of(variant, **options)).train()


@torch.no_grad()
def disturb(model, scale=0.05):
    """Move the weights that all cascades share by noise that depends on their order alone."""
    random = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "sharing" not in name:
            parameter.add_(scale * torch.randn(parameter.shape, generator=random) * parameter.std(correction=0))


def samples(number=2):
    """Images of 128 x 128 pixels with ground truth."""
    found = [DetDataSample(metainfo={"img_shape": (128, 128), "pad_shape": (128, 128)}) for _ in range(number)]
    for sample in found:
        sample.gt_instances = InstanceData(bboxes=TRUTH.clone(), labels=LABELS.clone())
        sample.ignored_instances = InstanceData(bboxes=TRUTH[:0], labels=LABELS[:0])
    return found


def train_step(model):
    """Losses and gradients, by common name, of one step on a fixed batch."""
    torch.manual_seed(0)
    losses = model.loss(torch.randn(2, 3, 128, 128), samples())
    total, terms = model.parse_losses(losses)
    total.backward()
    gradients = {common_name(name): parameter.grad for name, parameter in model.named_parameters()}
    return {name: value.detach() for name, value in terms.items()}, gradients


@dataclass
class Call:
    """Arguments of a head's loss: one task's output, and what it is to learn."""

    values: torch.Tensor
    rois: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor

    @property
    def positive(self):
        """Whether each RoI is positive."""
        return self.labels < CLASSES

    def boxes(self, image):
        """RoIs of one image, [R, 4]."""
        return self.rois[self.rois[:, 0] == image, 1:]


def train_heads(model, first, second=None):
    """Train the heads on two images of the same boxes; give their losses, and the calls by head and task."""
    roi_head, calls = model.roi_head, defaultdict(dict)

    def recorded(number, loss):
        def record(logits, deltas, rois, labels, weights, targets, *others, **keywords):
            for task, values in (("classification", logits), ("regression", deltas)):
                if values is not None:
                    calls[number][task] = Call(values, rois, labels, targets)
            return loss(logits, deltas, rois, labels, weights, targets, *others, **keywords)

        return record

    lists = [InstanceData(bboxes=(first if boxes is None else boxes).clone()) for boxes in (first, second)]
    given = [tuple(one.clone() for one in lists) for _ in range(2)]
    if not isinstance(roi_head, DecoupledRoIHeads):
        given = [pair[0] for pair in given]
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patches:
        for number, head in enumerate(roi_head.bbox_head):
            patches.setattr(head, "loss", recorded(number, head.loss))
        losses = roi_head.loss(tuple(probe_features(CHANNELS)), given, samples())
    return {name: value for name, value in losses.items() if "loss_" in name}, calls


def crowd(positives, negatives):
    """Boxes of which so many overlap a ground truth by more than .7, and the others none."""
    random = torch.Generator().manual_seed(0)
    near = TRUTH[torch.arange(positives) % 2] + 4 * torch.rand(positives, 4, generator=random) - 2
    corner = 25 * torch.rand(negatives, 2, generator=random) + torch.tensor([0.0, 96.0])
    far = torch.cat([corner, corner + 3 + 3 * torch.rand(negatives, 2, generator=random)], 1)
    return torch.cat([near, far])


def same_detections(one, other, run, other_run, records, labels):
    """Say whether two models detect the same, to the last bit, at these test stages."""
    for first, second in zip(
        ADAPTER.predict(run, one.eval(), records), ADAPTER.predict(other_run, other.eval(), records), strict=True
    ):
        for label in labels:
            assert len(first.test_stages[label].scores), label
            for part in ("boxes", "scores", "labels"):
                pair = (getattr(found.test_stages[label], part) for found in (first, second))
                assert len({array.tobytes() for array in pair}) == 1, (label, part)
