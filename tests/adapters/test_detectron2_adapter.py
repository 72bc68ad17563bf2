"""The Detectron2 adapter beside Detectron2's own heads and inference."""

import numpy as np
import pytest
import torch
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from trainings import changed

from adapters.commands import initial_model
from adapters.detectron2.adapter import ADAPTER
from adapters.detectron2.data import ImageReader
from cascadebench.core.errors import InputError


@pytest.fixture
def run_of(small_run):
    """Return a function that makes a run of a variant that detects at low scores, too."""
    return lambda variant, **options: changed(
        small_run("detectron2", variant, **options), inference={"score_threshold": 0.01}
    )


def build(run) -> torch.nn.Module:
    """Build the detector with initial weights."""
    return initial_model(ADAPTER, run, with_weights=False)


@pytest.mark.parametrize(("variant", "options"), [
    ("faster_rcnn", {"regression": "class_specific"}), ("faster_rcnn", {}), ("cascade_rcnn", {}),
])  # fmt: skip
def test_headline_is_what_detectron2_itself_detects(variant, options, run_of, records):
    run = run_of(variant, **options)
    model = build(run).eval()
    image = ImageReader(run).test_image(records[0])
    ours = ADAPTER.predict_one(model, records[0], image, run.variant.test_stages).test_stages[run.variant.headline]
    with torch.no_grad():
        theirs = model([image])[0]["instances"]
    assert len(theirs)
    np.testing.assert_allclose(ours.boxes, theirs.pred_boxes.tensor, atol=1e-4)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)


def test_one_stage_trains_as_detectron2s_standard_heads(run_of, records):
    run = run_of("faster_rcnn")
    heads = build(run).roi_heads.train()
    heads.image_seed = None  # Detectron2 draws for both
    shared = {name: getattr(heads, name) for name in (
        "num_classes", "batch_size_per_image", "positive_fraction", "proposal_matcher", "proposal_append_gt",
        "box_in_features", "box_pooler",
    )}  # fmt: skip
    standard = StandardROIHeads(box_head=heads.box_head[0], box_predictor=heads.box_predictor[0], **shared).train()
    maps = {f"p{level}": torch.randn(1, 64, 64 // 2**level, 64 // 2**level) for level in range(2, 6)}
    target = ImageReader(run).training_image(records[2], 64, flip=True)["instances"]
    losses = []
    for one in (heads, standard):
        boxes = Boxes(torch.rand(40, 4, generator=torch.Generator().manual_seed(0)) * 20 + torch.tensor([0, 0, 20, 20]))
        proposals = Instances(target.image_size, proposal_boxes=boxes, objectness_logits=torch.zeros(40))
        torch.manual_seed(0)
        with EventStorage():
            losses.append([value.item() for value in one(None, maps, [proposals], [target])[1].values()])
    assert losses[0] == losses[1]


def test_size_divisor_must_suit_the_pyramid(run_of):
    with pytest.raises(InputError, match="multiple of 32"):
        build(changed(run_of("faster_rcnn"), input={"size_divisor": 16}))
