"""What a training records of the RoIs that enter its stages, in both frameworks."""

from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest
import torch
from trainings import train

from adapters.commands import initial_model, load_adapter
from adapters.data.training_dataset import TrainingDataset
from adapters.training import training_session
from adapters.training.seeding import seed_everything
from adapters.training.stage_recording import StageRecording
from adapters.training.training_session import TrainingSession
from cascadebench.determinism.training_order import training_order
from cascadebench.diagnostics.boxes import best_ground_truth
from cascadebench.diagnostics.stage_statistics import STAGE_STATISTICS
from cascadebench.metrics.coco.parquet import read_parquet

VARIANTS = ["faster_rcnn", "cascade_rcnn", "decoupled_rcnn", "integral_loss"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_recording_changes_no_byte_of_a_training(
    framework, variant, small_run, records, execution, tmp_path, monkeypatch
):
    run = small_run(framework, variant)
    monkeypatch.setattr(training_session, "RECORDED_EVERY", 1)
    train(run, records, tmp_path / "recorded", execution).finish()
    monkeypatch.setattr(training_session, "StageRecording", lambda *_: None)
    train(run, records, tmp_path / "not", execution).finish()
    table = read_parquet(tmp_path / "recorded" / "stage_statistics.parquet", STAGE_STATISTICS)
    assert sorted(set(table["stage"])) == list(range(1, run.variant.stages + 1))
    assert list(table["iteration"]) == np.repeat(np.arange(6), run.variant.stages).tolist()
    assert (table["images"] == 2).all()
    assert len(read_parquet(tmp_path / "not" / "stage_statistics.parquet", STAGE_STATISTICS)) == 0
    first, second = (tmp_path / name / "checkpoints" / "last.pt" for name in ("recorded", "not"))
    assert first.read_bytes() == second.read_bytes()


def test_every_twentieth_step_is_recorded_and_by_the_first_process_alone(small_run, tmp_path, execution, monkeypatch):
    run = small_run("mmdet", "cascade_rcnn")
    session = TrainingSession(run, tmp_path, torch.device("cpu"), execution)
    assert [step for step in range(50) if session.before_iteration(step) is not None] == [0, 20, 40]
    monkeypatch.setattr(training_session, "place_in_group", lambda: (1, 2))
    session = TrainingSession(run, tmp_path, torch.device("cpu"), execution)
    assert [step for step in range(50) if session.before_iteration(step) is not None] == []


def mmdet_step(model, run, records):
    """Train one step on two images; returns for every stage the boxes of each image that enter, and ground truth."""
    from mmengine.dataset import pseudo_collate

    from adapters.mmdet.data import ImageReader

    dataset = TrainingDataset(ImageReader(run), records, training_order(records, run.protocol, 0))
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
    truth = [sample.gt_instances.bboxes.clone() for sample in batch["data_samples"]]
    stages, decoupled = [], run.variant.name == "decoupled_rcnn"
    propose = model.rpn_head.loss_and_predict

    def proposals(*arguments, **named):
        losses, found = propose(*arguments, **named)
        lists = [one[1] for one in found] if decoupled else found
        stages.append([one.bboxes.detach().clone() for one in lists])
        return losses, found

    def noting(method):
        def noted(*arguments):
            found = method(*arguments)
            boxes = found if decoupled else [one.bboxes for one in found]
            if len(boxes):
                stages.append([one[(one[:, 2:] > one[:, :2]).all(1)].clone() for one in boxes])
            return found

        return noted

    with ExitStack() as spies:
        spies.enter_context(patch.object(model.rpn_head, "loss_and_predict", proposals))
        if decoupled:
            spies.enter_context(
                patch.object(model.roi_head, "_positives_moved", noting(model.roi_head._positives_moved))
            )
        for head in () if decoupled else model.roi_head.bbox_head:
            spies.enter_context(patch.object(head, "refine_bboxes", noting(head.refine_bboxes)))
        model.loss(batch["inputs"], batch["data_samples"])
    return stages, truth


def detectron2_step(model, run, records):
    """The same in Detectron2."""
    from detectron2.utils.events import EventStorage

    from adapters.detectron2.data import ImageReader

    reader = ImageReader(run)
    batch = [reader.training_image(record, 128, flip=False) for record in records[:2]]
    truth = [one["instances"].gt_boxes.tensor.clone() for one in batch]
    stages, decoupled = [], run.variant.name == "decoupled_rcnn"
    create = model.roi_heads._create_proposals_from_boxes

    def created(boxes, sizes):
        found = create(boxes, sizes)
        stages.append([one.proposal_boxes.tensor.clone() for one in found])
        return found

    def proposed(module, given, found):
        lists = [one[1] for one in found[0]] if decoupled else found[0]
        stages.append([one.proposal_boxes.tensor.clone() for one in lists])

    hook = model.proposal_generator.register_forward_hook(proposed)
    with patch.object(model.roi_heads, "_create_proposals_from_boxes", created), EventStorage():
        model(batch)
    hook.remove()
    return stages, truth


@pytest.mark.parametrize("variant", VARIANTS)
def test_overlaps_and_targets_are_those_of_the_boxes_that_enter(framework, variant, small_run, records):
    from detectron2.modeling.box_regression import Box2BoxTransform

    run = small_run(framework, variant)
    model = initial_model(load_adapter(framework), run, with_weights=False).train()
    recording = StageRecording(run.variant.stages, 0.3)
    heads = model.roi_head if framework == "mmdet" else model.roi_heads
    heads.recording = recording
    seed_everything(0)
    step = mmdet_step if framework == "mmdet" else detectron2_step
    entered, truth = step(model, run, [record for record in records if len(record.boxes)])
    found = recording.stages()
    assert len(found) == run.variant.stages <= len(entered)
    decode = Box2BoxTransform(weights=(1.0,) * 4).get_deltas
    for seen, boxes in zip(found, entered, strict=False):
        pairs = [best_ground_truth(one.numpy(), target.numpy()) for one, target in zip(boxes, truth, strict=True)]
        ious = np.concatenate([one for one, _ in pairs])
        assert np.allclose(seen.ious, ious, atol=1e-6)
        assert seen.ious.dtype == np.float32
        near = [np.flatnonzero(one >= 0.3) for one, _ in pairs]
        assert np.allclose(seen.target_ious, ious[ious >= 0.3], atol=1e-6)
        parts = [
            decode(one[rows], target[place[rows]])
            for one, target, (_, place), rows in zip(boxes, truth, pairs, near, strict=True)
        ]
        assert np.allclose(seen.targets, torch.cat(parts).numpy(), atol=1e-5)
    assert sum(len(seen.targets) for seen in found) > 0


def test_without_ground_truth_every_overlap_is_zero():
    recording = StageRecording(2, 0.5)
    recording.add(0, torch.tensor([[0.0, 0.0, 5.0, 5.0], [1.0, 1.0, 2.0, 2.0]]), torch.zeros(0, 4))
    first, second = recording.stages()
    assert first.ious.tolist() == [0.0, 0.0]
    assert first.targets.shape == second.targets.shape == (0, 4)
    assert len(second.ious) == 0
