"""MMDetection's adapter: what it builds, how it trains and what it predicts."""

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from adapters.commands import initial_model
from adapters.data.training_dataset import TrainingDataset
from adapters.mmdet.adapter import ADAPTER
from adapters.mmdet.data import ImageReader
from adapters.mmdet.operators import operators_in_use
from adapters.mmdet.training import build_optimizer, build_schedulers, loss_name
from adapters.training.training_session import TrainingSession
from cascadebench.core.errors import InputError
from cascadebench.datasets.prepared import trainable
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.determinism.image_size import resized_shape
from cascadebench.determinism.training_order import training_order
from cascadebench.study.stage_settings import stage_settings
from cascadebench.study.study_file import load_protocol
from cascadebench.study_loading import load_study

VARIANTS = ["faster_rcnn", "cascade_rcnn", "fscascade", "decoupled_rcnn", "integral_loss"]
"""Every variant that is trained."""


def train(run, records, out, execution):
    """Train a run in a folder and return its last checkpoint."""
    with_boxes = [record for record in records if len(record.boxes)]
    session = TrainingSession(run, out, torch.device("cpu"), execution)
    model = initial_model(ADAPTER, run, with_weights=False)
    ADAPTER.train(run, model, with_boxes, training_order(with_boxes, run.protocol, run.seed), session)
    session.finish()
    return torch.load(out / "checkpoints" / "last.pt", weights_only=True)


def assert_equal_states(first, second):
    """Compare two checkpoints to the last bit."""
    assert first["model"].keys() == second["model"].keys()
    for name, tensor in first["model"].items():
        assert torch.equal(tensor, second["model"][name]), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_is_repeatable_and_resuming_equals_never_stopping(
    variant, small_run, records, execution, tmp_path, monkeypatch
):
    run = small_run("mmdet", variant)
    whole = train(run, records, tmp_path / "whole", execution)
    assert_equal_states(whole, train(run, records, tmp_path / "again", execution))

    out = tmp_path / "stopped"
    after = TrainingSession.after_iteration

    def stop_in_the_fifth(self, iteration, *arguments):
        after(self, iteration, *arguments)
        if iteration == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingSession, "after_iteration", stop_in_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        train(run, records, out, execution)
    assert torch.load(out / "checkpoints" / "last.pt", weights_only=True)["iteration"] == 3
    monkeypatch.setattr(TrainingSession, "after_iteration", after)
    resumed = train(run, records, out, execution)
    assert_equal_states(whole, resumed)
    # The log of a resumed training reads as if it had never stopped, but for the seconds.
    lines = [
        [line.split('"seconds"')[0] for line in (tmp_path / name / "train_log.jsonl").read_text().splitlines()]
        for name in ("whole", "stopped")
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 6


def test_the_log_says_which_images_were_trained_on(small_run, records, execution, tmp_path):
    run = small_run("mmdet", "faster_rcnn")
    train(run, records, tmp_path, execution)
    with_boxes = trainable_records(records)
    order = training_order(with_boxes, run.protocol, run.seed)
    chain = ""
    for line, images, flips in zip(
        (tmp_path / "train_log.jsonl").read_text().splitlines(), order.images, order.flips, strict=True
    ):
        step = "".join(
            f"{with_boxes[image].id}{'-' if flip else '+'}" for image, flip in zip(images, flips, strict=True)
        )
        chain = hashlib.sha256(f"{chain}{step}".encode()).hexdigest()
        assert json.loads(line)["consumed_sha256"] == chain


def test_another_seed_trains_another_model(small_run, records, execution, tmp_path):
    run = small_run("mmdet", "faster_rcnn")
    first = train(run, records, tmp_path / "0", execution)
    second = train(run.model_copy(update={"seed": 1}), records, tmp_path / "1", execution)
    assert not torch.equal(first["model"]["backbone.conv1.weight"], second["model"]["backbone.conv1.weight"])


@pytest.mark.parametrize("variant", [*VARIANTS, "iterative_bbox"])
def test_every_test_stage_comes_with_boxes_inside_the_image(variant, small_run, records):
    run = small_run("mmdet", variant)
    model = initial_model(ADAPTER, run, with_weights=False).eval()
    predictions = list(ADAPTER.predict(run, model, records))
    assert [prediction.image_id for prediction in predictions] == [record.id for record in records]
    labels = [stage.label for stage in run.variant.test_stages]
    for prediction, record in zip(predictions, records, strict=True):
        assert list(prediction.test_stages) == labels
        for found in [*prediction.test_stages.values(), prediction.proposals]:
            assert found.boxes.dtype == found.scores.dtype == np.float32
            assert (found.boxes >= 0).all()
            assert (found.boxes[:, [0, 2]] <= record.width).all()
            assert (found.boxes[:, [1, 3]] <= record.height).all()
            assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
            assert ((found.scores >= 0) & (found.scores <= 1)).all()
            assert (np.diff(found.scores) <= 0).all()
    assert sum(len(prediction.proposals.scores) for prediction in predictions) > 0


def test_predicting_twice_gives_the_same_bits(small_run, records):
    run = small_run("mmdet", "cascade_rcnn")
    model = initial_model(ADAPTER, run, with_weights=False).eval()
    first, second = (list(ADAPTER.predict(run, model, records)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for label, found in one.test_stages.items():
            assert found.boxes.tobytes() == other.test_stages[label].boxes.tobytes()
            assert found.scores.tobytes() == other.test_stages[label].scores.tobytes()


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


@pytest.mark.parametrize("variant", [*VARIANTS, "iterative_bbox"])
def test_an_image_without_proposals_gives_no_detections(variant, small_run, records, monkeypatch):
    run = small_run("mmdet", variant)
    model = initial_model(ADAPTER, run, with_weights=False).eval()
    predict = model.rpn_head.predict
    monkeypatch.setattr(model.rpn_head, "predict", lambda *a, **k: [found[:0] for found in predict(*a, **k)])
    prediction = next(ADAPTER.predict(run, model, records[:1]))
    assert all(len(found.scores) == 0 for found in prediction.test_stages.values())


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


@pytest.mark.parametrize("name", ["tiny", "coco_1x"])
def test_the_learning_rate_is_the_protocol_s_at_every_iteration(name):
    run = load_study("tiny").runs[0].run.model_copy(update={"protocol": load_protocol(name, {}, "test")})
    wrapper = build_optimizer(torch.nn.Linear(1, 1), run)
    schedulers = build_schedulers(wrapper, run)
    for iteration in range(run.protocol.schedule.iterations):
        assert wrapper.param_groups[0]["lr"] == pytest.approx(run.learning_rate(iteration), rel=1e-9), iteration
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


def test_images_are_resized_and_flipped_as_planned(small_run, records):
    run = small_run("mmdet", "faster_rcnn")
    with_boxes = trainable_records(records)
    order = training_order(with_boxes, run.protocol, 0)
    dataset = TrainingDataset(ImageReader(run), with_boxes, order)
    for position in range(order.images.size):
        item, record = dataset[position], with_boxes[order.images.flat[position]]
        width, height = resized_shape(record.width, record.height, 128, 128)
        assert item["inputs"].shape == (3, height, width)
        boxes = record.boxes.copy() * np.tile([width / record.width, height / record.height], 2)
        if order.flips.flat[position]:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        assert np.allclose(item["data_samples"].gt_instances.bboxes.tensor.numpy(), boxes, atol=1e-4)


def test_a_test_image_keeps_its_stored_orientation(small_run, records, tmp_path):
    """EXIF orientation is ignored: annotations speak of the stored pixels."""
    from PIL import Image

    picture = Image.open(records[0].path)
    exif = picture.getexif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    picture.save(path, exif=exif)
    item = ImageReader(small_run("mmdet", "faster_rcnn")).test_image(replace(records[0], path=path))
    assert item["inputs"].shape[1:] == resized_shape(picture.width, picture.height, 128, 128)[::-1]


PARAMETERS = {"Faster R-CNN FPN, class-specific": 41_527_712, "Cascade R-CNN": 69_170_000}


@pytest.mark.parametrize("label", PARAMETERS)
def test_trainable_parameters_of_the_published_detectors(label):
    run = next(p.run for p in load_study("coco_1x").runs if p.label == label and p.run.framework == "mmdet")
    model = ADAPTER.build_model(run)
    trainable_parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trainable_parameters == pytest.approx(PARAMETERS[label], abs=5_000)


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


def test_the_session_refuses_a_training_split_without_boxes(records):
    from cascadebench.datasets.prepared import PreparedSplit

    with pytest.raises(InputError, match="no image has a ground-truth box"):
        trainable(PreparedSplit((records[5],), (1,)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_under_own_rules_trains_and_predicts(variant, small_run, records, execution, tmp_path):
    run = small_run("mmdet", variant)
    run = run.model_copy(update={"protocol": run.protocol.model_copy(update={"rules": "mmdet"})})
    model = initial_model(ADAPTER, run, with_weights=False)
    train(run, records, tmp_path, execution)
    predictions = list(ADAPTER.predict(run, model.eval(), records[:1]))
    assert list(predictions[0].test_stages) == [stage.label for stage in run.variant.test_stages]


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
