"""Detections on proposals that are not the detector's own, in both frameworks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_images import few_shapes
from trainings import changed, command, same, save_model, with_truth

from adapters.commands import initial_model, load_adapter, proposals_of
from adapters.prediction.given_proposals import GROUND_TRUTH, GivenProposals, swapped
from cascadebench.diagnostics.boxes import best_ground_truth
from cascadebench.metrics.coco.detections import read_detections


def still_model(run):
    """A detector in test mode whose regressors leave boxes where they are."""
    model = initial_model(load_adapter(run.framework), run, with_weights=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "fc_reg" in name or ("box_predictor" in name and "bbox_pred" in name):
                parameter.zero_()
    return model.eval()


def test_given_boxes_are_resized_clipped_and_empty_ones_dropped(records):
    record = replace(records[0], width=200, height=100)
    own, objectness = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([0.25])
    boxes = np.array([[10, 10, 50, 30], [-20, 0, 300, 50], [7, 7, 7, 9], [250, 10, 300, 20]], dtype=np.float32)
    resized = [[5.0, 5.0, 25.0, 15.0], [0.0, 0.0, 100.0, 25.0]]
    for keep_own in (True, False):
        given = GivenProposals(lambda _: boxes, keep_own)
        found, scores = swapped(own, objectness, given, record, (50, 100))
        assert found.tolist() == own.tolist() * keep_own + resized
        assert scores.tolist() == [0.25] * keep_own + [1.0, 1.0]
    assert swapped(own, objectness, None, record, (50, 100)) == (own, objectness)


@pytest.mark.parametrize("variant", ["faster_rcnn", "cascade_rcnn", "decoupled_rcnn"])
def test_with_the_ground_truth_added_nothing_is_missed(framework, variant, small_run, records):
    every = {"score_threshold": 0.0, "nms_iou": 0.99, "max_detections": 5000}
    run = changed(small_run(framework, variant), inference=every)
    model, adapter = still_model(run), load_adapter(framework)
    found = [0, 0]
    chosen = with_truth(records)
    passes = [list(adapter.predict(run, model, chosen, given)) for given in (None, GROUND_TRUTH)]
    for number, predictions in enumerate(passes):
        for record, prediction in zip(chosen, predictions, strict=True):
            boxes = prediction.test_stages[run.variant.headline].boxes
            found[number] += int((best_ground_truth(record.boxes, boxes)[0] > 0.95).sum())
    assert found[0] < found[1] == sum(len(record.boxes) for record in chosen)
    for record, own, other in zip(chosen, *passes, strict=True):
        proposals, more = own.observe(False).proposals, other.observe(False)
        assert np.array_equal(more.proposals[: len(proposals)], proposals)
        assert np.allclose(more.proposals[len(proposals) :], record.boxes, atol=1e-3)
        assert (more.objectness[len(proposals) :] == 1).all()


@pytest.mark.parametrize(
    "variant", ["faster_rcnn", "cascade_rcnn", "fscascade", "decoupled_rcnn", "integral_loss", "iterative_bbox"]
)
def test_without_proposals_nothing_is_detected(framework, variant, small_run, records):
    run = changed(small_run(framework, variant), inference={"score_threshold": 0.0})
    nothing = GivenProposals(lambda record: np.zeros((0, 4), np.float32), keep_own=False)
    (prediction,) = load_adapter(framework).predict(run, still_model(run), records[:1], nothing)
    assert list(prediction.test_stages) == [stage.label for stage in run.variant.test_stages]
    for detections in (prediction.proposals, *prediction.test_stages.values()):
        assert detections.boxes.shape == (0, 4)
        assert detections.scores.shape == detections.labels.shape == (0,)


def test_its_own_proposals_from_outside_give_the_same_detections(framework, small_run, records):
    run = small_run(framework, "cascade_rcnn")
    model, adapter = still_model(run), load_adapter(framework)
    given = proposals_of(adapter, run, model, 0)
    for own, other in zip(
        adapter.predict(run, model, records), adapter.predict(run, model, records, given), strict=True
    ):
        for label, expected in own.test_stages.items():
            assert same(other.test_stages[label], expected)


def test_a_detector_is_given_the_boxes_that_leave_a_stage_of_another(framework, small_run, records):
    run, other = small_run(framework, "faster_rcnn"), small_run(framework, "cascade_rcnn")
    adapter = load_adapter(framework)
    cascade = initial_model(adapter, other, with_weights=False).eval()
    with torch.no_grad():
        for name, parameter in cascade.named_parameters():
            if "fc_reg" in name or "bbox_pred" in name:
                parameter.add_(0.02)
    given = proposals_of(adapter, other, cascade, 2)
    (theirs,) = adapter.predict(other, cascade, records[:1])
    (found,) = adapter.predict(run, still_model(run), records[:1], given)
    boxes = theirs.observe(False).stages[1].boxes
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    assert np.allclose(found.observe(False).proposals, boxes, atol=1e-3)
    assert not np.array_equal(boxes, theirs.observe(False).proposals)


def test_the_command_writes_the_headline_under_the_name_of_the_source(framework, small_run, tmp_path, capsys):
    few_shapes(tmp_path / "data", 2, 3)
    run, other = small_run(framework, "faster_rcnn"), small_run(framework, "cascade_rcnn")
    for one in (run, other):
        one.write(tmp_path / one.id / "run.yaml")
        save_model(one, tmp_path / one.id, still_model(one))

    def predict(*more):
        return command(run, "predict-with", tmp_path / run.id, tmp_path / "data", *more)

    of_other = ["--proposals-of", str(tmp_path / other.id / "run.yaml")]
    assert predict() == predict(*of_other, "--stage", "3") == 0
    for name in ("ground_truth", f"{other.id}-stage3"):
        table = read_detections(tmp_path / run.id / "proposals_of" / name / "detections.parquet")
        assert set(table["test_stage"]) == {"(1,1)"}
        assert len(set(table["image_id"])) == 3
    capsys.readouterr()
    assert predict(*of_other, "--stage", "4") == predict("--stage", "1") == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"error: --stage 4: {other.id} has 0 (the proposals) to 3"
    assert lines[1] == "error: --stage: needs --proposals-of; ground truth is added to the proposals"
    assert not (tmp_path / run.id / "failed.json").exists()
