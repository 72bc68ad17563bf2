"""MMDetection's adapter: its stages in training and at test, and the operators that serve it."""

import sys

import pytest
import torch
from mmengine.dataset import pseudo_collate

from adapters.commands import initial_model
from adapters.data.training_dataset import TrainingDataset
from adapters.mmdet.adapter import ADAPTER
from adapters.mmdet.data import ImageReader
from adapters.mmdet.operators import operators_in_use
from adapters.mmdet.training import loss_name
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.determinism.training_order import training_order
from cascadebench.study.stage_settings import stage_settings

VARIANTS = ["faster_rcnn", "cascade_rcnn", "fscascade", "decoupled_rcnn", "integral_loss"]
"""Every variant that is trained."""


def test_stages_follow_each_other_row_by_row(small_run):
    """The second stage sees the first one's boxes; the last RoIs are those that enter the third."""
    run = small_run("mmdet", "cascade_rcnn")
    model = initial_model(ADAPTER, run, with_weights=False).eval()
    torch.manual_seed(0)
    for head in model.roi_head.bbox_head:
        torch.nn.init.normal_(head.fc_reg.weight, std=0.05)
    features = model.extract_feat(torch.randn(1, 3, 128, 128))
    proposals = torch.tensor([[10.0, 10.0, 60.0, 70.0], [0.0, 0.0, 127.0, 127.0], [40.0, 30.0, 90.0, 100.0]])
    roi_head = model.roi_head
    with torch.no_grad():
        outputs = roi_head.run_stages(features, proposals, (128, 128), run.variant.test_stages)
        entering = proposals
        for stage, (extractor, head) in enumerate(zip(roi_head.bbox_roi_extractor, roi_head.bbox_head, strict=True)):
            pooled = extractor(features[:4], torch.cat([torch.zeros(3, 1), entering], 1))
            scores, deltas = head(pooled)
            assert torch.equal(outputs.logits[stage], scores)
            if stage == 2:
                for other, other_head in enumerate(roi_head.bbox_head):
                    assert torch.equal(outputs.last_logits[other], other_head(pooled)[0])
            entering = head.bbox_coder.decode(entering, deltas, max_shape=(128, 128))
            assert torch.equal(outputs.boxes[stage], entering)
        headline = [TestStage.parse(run.variant.headline)]
        assert roi_head.run_stages(features, proposals, (128, 128), headline).last_logits == []
    assert not torch.equal(outputs.boxes[0], outputs.boxes[1])
    assert not torch.equal(outputs.last_logits[0], outputs.logits[0])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("proposals", [True, False])
def test_a_batch_with_no_ground_truth_trains(proposals, variant, small_run, records, monkeypatch):
    """MMDetection itself can: what the adapter adds must not break it, also where there is not even a proposal."""
    run = small_run("mmdet", variant)
    model = initial_model(ADAPTER, run, with_weights=False).train()
    if not proposals:
        predict = model.rpn_head.predict_by_feat
        monkeypatch.setattr(model.rpn_head, "predict_by_feat", lambda *a, **k: [one[:0] for one in predict(*a, **k)])
    empty = [records[5], records[5]]
    order = training_order(empty, run.protocol, 0)
    dataset = TrainingDataset(ImageReader(run), empty, order)
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
    losses = model.loss(batch["inputs"], batch["data_samples"])
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    stages = stage_settings(run)
    classified = {f"stage{t}_classification" for t, stage in enumerate(stages, start=1) if stage.has_classifier}
    regressed = {f"stage{t}_regression" for t, stage in enumerate(stages, start=1) if stage.has_regressor}
    terms = {loss_name(name) for name in losses if "loss_" in name}
    assert terms == classified | regressed | {"rpn_classification", "rpn_regression"}


def test_later_stages_train_on_all_regressed_boxes(small_run, records):
    """No sampling and no added ground truth after the first stage: what enters leaves, but for empty boxes."""
    run = small_run("mmdet", "cascade_rcnn")
    model = initial_model(ADAPTER, run, with_weights=False).train()
    with_boxes = trainable_records(records)
    dataset = TrainingDataset(ImageReader(run), with_boxes, training_order(with_boxes, run.protocol, 0))
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
    seen = []
    bbox_loss = model.roi_head.bbox_loss
    model.roi_head.bbox_loss = lambda stage, x, results: (
        seen.append([(len(result.priors), int(result.pos_is_gt.sum())) for result in results])
        or bbox_loss(stage, x, results)
    )
    model.loss(batch["inputs"], batch["data_samples"])
    sampled = run.protocol.heads.rois_per_image
    assert [number for number, _ in seen[0]] == [sampled, sampled]
    assert all(ground_truth > 0 for _, ground_truth in seen[0])
    assert [number for number, _ in seen[1]] == [number for number, _ in seen[2]] == [sampled, sampled]
    assert all(ground_truth == 0 for stage in seen[1:] for _, ground_truth in stage)


def trainable_records(records):
    """Records with ground truth."""
    return [record for record in records if len(record.boxes)]


def test_operators_are_served():
    assert operators_in_use() in ("torchvision", "mmcv compiled")
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
    _, kept = nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)
    assert kept.tolist() == [1, 2]


def test_an_operator_that_torchvision_lacks_says_so():
    if operators_in_use() != "torchvision":
        pytest.skip("needs an mmcv without compiled operators; this one has them")
    with pytest.raises(NotImplementedError, match="carafe_forward"):
        sys.modules["mmcv._ext"].carafe_forward()


def test_boxes_regressed_out_of_the_image_are_dropped_between_stages(small_run, records):
    run = small_run("mmdet", "cascade_rcnn")
    model = initial_model(ADAPTER, run, with_weights=False).train()
    with torch.no_grad():
        model.roi_head.bbox_head[0].fc_reg.bias[0] = 20.0  # two widths to the right
    with_boxes = trainable_records(records)
    dataset = TrainingDataset(ImageReader(run), with_boxes, training_order(with_boxes, run.protocol, 0))
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
    seen = []
    bbox_loss = model.roi_head.bbox_loss
    model.roi_head.bbox_loss = lambda stage, x, results: (
        seen.append(torch.cat([result.priors for result in results])) or bbox_loss(stage, x, results)
    )
    total, _ = model.parse_losses(model.loss(batch["inputs"], batch["data_samples"]))
    assert torch.isfinite(total)
    assert 0 < len(seen[1]) < len(seen[0])
    assert (seen[1][:, 2:] > seen[1][:, :2]).all()
