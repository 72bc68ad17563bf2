"""What a training records of the RoIs that enter its stages, in both frameworks."""

from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest
import torch
from head_sides import detector
from trainings import train

from adapters.training import training_session
from adapters.training.stage_recording import StageRecording
from adapters.training.training_session import TrainingSession
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


def noting_what_enters(one):
    """A list of the boxes of each image that enter every stage, and a context in which a step fills it."""
    stages, spies, decoupled = [], ExitStack(), one.run.variant.name == "decoupled_rcnn"

    def note(owner, name, boxes_of):
        plain = getattr(owner, name)

        def noted(*arguments, **named):
            found = plain(*arguments, **named)
            if boxes := boxes_of(found):
                stages.append([each[(each[:, 2:] > each[:, :2]).all(1)].detach().clone() for each in boxes])
            return found

        spies.enter_context(patch.object(owner, name, noted))

    def own(lists):
        return [of_image[1] if decoupled else of_image for of_image in lists]

    if one.run.framework == "detectron2":
        rpn = one.model.proposal_generator
        note(rpn, "forward", lambda found: [each.proposal_boxes.tensor for each in own(found[0])])
        note(one.heads, "_create_proposals_from_boxes", lambda found: [each.proposal_boxes.tensor for each in found])
        return stages, spies
    note(one.model.rpn_head, "loss_and_predict", lambda found: [each.bboxes for each in own(found[1])])
    if decoupled:
        note(one.heads, "_positives_moved", list)
    for head in () if decoupled else one.heads.bbox_head:
        note(head, "refine_bboxes", lambda found: [each.bboxes for each in found])
    return stages, spies


@pytest.mark.parametrize("variant", VARIANTS)
def test_overlaps_and_targets_are_those_of_the_boxes_that_enter(framework, variant, records):
    from detectron2.modeling.box_regression import Box2BoxTransform

    one, pair = detector(framework, variant), records[:2]
    recording = one.heads.recording = StageRecording(one.run.variant.stages, 0.3)
    entered, spies = noting_what_enters(one)
    with spies:
        one.step(pair)
    truth = [torch.from_numpy(record.boxes) for record in pair]
    found = recording.stages()
    assert len(found) == one.run.variant.stages <= len(entered)
    decode = Box2BoxTransform(weights=(1.0,) * 4).get_deltas
    for seen, boxes in zip(found, entered, strict=False):
        pairs = [best_ground_truth(own.numpy(), target.numpy()) for own, target in zip(boxes, truth, strict=True)]
        ious = np.concatenate([own for own, _ in pairs])
        assert np.allclose(seen.ious, ious, atol=1e-6)
        assert seen.ious.dtype == np.float32
        near = [np.flatnonzero(own >= 0.3) for own, _ in pairs]
        assert np.allclose(seen.target_ious, ious[ious >= 0.3], atol=1e-6)
        parts = [
            decode(own[rows], target[place[rows]])
            for own, target, (_, place), rows in zip(boxes, truth, pairs, near, strict=True)
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
