"""One pass in test mode: proposals, and the detections of every test stage."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torchvision.ops import nms

from adapters.prediction.predict_image import Detections
from adapters.training.assembly import Built
from adapters.witness.fixtures import SHORT_SIDE
from adapters.witness.quantities import unordered
from adapters.witness.subject import Subject
from cascadebench.controls.witness import Quantity
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.inference_stages import all_test_stages


def detection_quantities(subject: Subject, record: ImageRecord) -> Iterator[Quantity]:
    """Detect on a small picture, and once from given boxes and scores."""
    built, adapter, model, variant = subject.built, subject.adapter, subject.built.model, subject.built.run.variant
    model.eval()
    image = built.dataset.reader.training_image(record, SHORT_SIDE, False)
    prediction = adapter.predict_one(model, record, image, all_test_stages(variant.stages, variant.classifiers))
    yield Quantity(step="proposals at test", name="proposals", value=_detected(prediction.proposals))
    for label, detections in prediction.test_stages.items():
        step = "first stage at test" if label == "(1,1)" else "all stages at test"
        yield Quantity(step=step, name=f"detections {label}", value=_detected(detections))
    boxes, scores = given_outputs(len(built.run.dataset.categories))
    with torch.inference_mode():
        detected = adapter.proposed(model, record, image).detect(0, boxes, scores)
    wanted = unordered(plain_detections(built, boxes, scores)) if subject.aligned else None
    yield Quantity(step="first stage at test", name="detections from given boxes and scores", wanted=wanted,
                   value=unordered(_columns(*detected)))  # fmt: skip


def _detected(found: Detections) -> list[float]:
    boxes, scores, labels = (torch.from_numpy(part) for part in (found.boxes, found.scores, found.labels))
    return unordered(_columns(boxes, scores, labels))


def _columns(boxes: Tensor, scores: Tensor, labels: Tensor) -> list[Tensor]:
    return [*boxes.T, 100 * scores, labels]


def given_outputs(classes: int) -> tuple[Tensor, Tensor]:
    """Four hundred boxes in twenty heaps, float64 [400, 4], and their probabilities, float64 [400, classes + 1]."""
    random = torch.Generator().manual_seed(0)
    heaps = 0.7 * SHORT_SIDE * torch.rand(20, 1, 2, generator=random)
    corner = (heaps + 4 * torch.rand(20, 20, 2, generator=random)).reshape(-1, 2)
    side = 6 + 4 * torch.rand(400, 2, generator=random)
    boxes = torch.cat([corner, corner + side], 1).clamp(max=SHORT_SIDE)
    return boxes, (2.0 * torch.randn(400, classes + 1, generator=random)).softmax(1)


def plain_detections(built: Built, boxes: Tensor, scores: Tensor) -> list[Tensor]:
    """Filter by score, suppress class by class and keep the best, written out."""
    inference, kept = built.run.protocol.inference, []
    for label in range(scores.shape[1] - 1):
        own = (scores[:, label] > inference.score_threshold).nonzero()[:, 0]
        own = own[nms(boxes[own], scores[own, label], inference.nms_iou)]
        kept += [(float(scores[row, label]), int(row), label) for row in own]
    best = sorted(kept, reverse=True)[: inference.max_detections]
    rows = torch.tensor([row for _, row, _ in best], dtype=torch.long)
    labels = torch.tensor([label for _, _, label in best])
    return _columns(boxes[rows], torch.tensor([score for score, _, _ in best]), labels)
