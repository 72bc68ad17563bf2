"""The Detectron2 adapter beside Detectron2's own heads and inference."""

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from trainings import changed

from adapters.commands import initial_model
from adapters.detectron2.adapter import ADAPTER
from adapters.detectron2.data import ImageReader
from adapters.detectron2.inference import predict_one
from adapters.inspection.cost import count_cost
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
    ours = predict_one(model, records[0], image, run.variant.test_stages).test_stages[run.variant.headline]
    with torch.no_grad():
        theirs = model([image])[0]["instances"]
    assert len(theirs)
    np.testing.assert_allclose(ours.boxes, theirs.pred_boxes.tensor, atol=1e-4)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)


def test_last_rois_rule_pools_every_head_at_the_last_stage(run_of, records):
    run = run_of("cascade_rcnn")
    model = build(run).eval()
    with torch.no_grad():
        images = model.preprocess_image([ImageReader(run).test_image(records[0])])
        features = model.backbone(images.tensor)
        (proposals,), _ = model.proposal_generator(images, features, None)
        heads = model.roi_heads
        given = features, proposals.proposal_boxes.tensor, proposals.image_size
        outputs = heads.run_stages(*given, run.variant.test_stages)
        assert heads.run_stages(*given, run.variant.test_stages[:6]).last_logits == []
        entering = Instances(proposals.image_size, proposal_boxes=Boxes(outputs.boxes[1]))
        levels = [features[name] for name in heads.box_in_features]
        for stage in range(3):
            logits, _ = heads._run_stage(levels, [entering], stage)
            torch.testing.assert_close(outputs.last_logits[stage], logits)
    assert not torch.equal(outputs.last_logits[0], outputs.logits[0])


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


def test_cost_grows_with_rois(run_of):
    run = run_of("cascade_rcnn")
    more = changed(run, rpn={"test_post_nms": run.protocol.rpn.test_post_nms + 30})
    flops = [count_cost(ADAPTER, build(one), one)["flops"] for one in (run, more)]
    per_roi = 64 * 49 * 128 + 128 * 128 + 128 * (6 + 4)
    assert flops[1] - flops[0] == 3 * 30 * per_roi


def test_size_divisor_must_suit_the_pyramid(run_of):
    with pytest.raises(InputError, match="multiple of 32"):
        build(changed(run_of("faster_rcnn"), input={"size_divisor": 16}))
