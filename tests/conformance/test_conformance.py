"""What every variant must do in every framework: ``pytest tests/conformance --variant NAME``.

Without ``--variant`` all of the project's own are examined; ``--variant-folder DIR`` says where to find others.
"""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from comparison import add_noise, answers_of_both, assert_agreement, ground_truth, run_of, two_images
from sides import SIDES
from trainings import at_iteration, killed, left, log_of, same, train, trained, trained_model

from adapters.commands import initial_model, load_adapter
from adapters.prediction.predict_image import Prediction
from adapters.training.checkpoints import read_checkpoint
from cascadebench.controls.audit import audit
from cascadebench.controls.definitions import CONTROLS
from cascadebench.datasets.masks import problem_with


@pytest.fixture(scope="module")
def folder(run, records, execution, tmp_path_factory):
    """Folder of an undisturbed training."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    folder = tmp_path_factory.mktemp("trained")
    trained(run, records, folder, execution)
    return folder


@pytest.fixture(scope="module")
def model(run, folder):
    """The model with the weights of that training."""
    return trained_model(run, read_checkpoint(folder / "checkpoints" / "last.pt"))


@pytest.fixture(scope="module")
def predictions(adapter, run, records, model) -> list[Prediction]:
    """What the trained model sees on all images, the one without anything to see among them."""
    return list(adapter.predict(run, model, records))


def test_builds_inspects_and_passes_the_audit_but_for_its_treatment(study, planned):
    """Against the baseline only what the card declares differs; between the frameworks nothing does."""
    readings = {}
    for one in study.runs:
        built = load_adapter(one.run.framework)
        readings[one.run.id] = [asdict(control) for control in built.read_controls(built.build(one.run))]
    assert {entry["name"] for entry in readings[planned.run.id]} == set(CONTROLS)
    violations = audit(study, readings).of_kind("violation")
    assert [(found.control, found.check, found.value, found.other) for found in violations] == []


def test_trains_with_finite_loss(folder, run):
    lines = log_of(folder)
    assert len(lines) == run.protocol.schedule.iterations
    for line in lines:
        assert math.isfinite(line["loss"])
        assert "rpn_classification" in line["losses"]
        assert any(name.startswith("stage1_") for name in line["losses"])


def test_every_parameter_that_should_train_receives_gradient(adapter, run, found):
    side = SIDES[run.framework](run)
    model = initial_model(adapter, run_of(run.framework, found), with_weights=False)
    add_noise(model, side.common_name)  # layers that start at zero pass no gradient on
    wanted = {side.common_name(name) for name, one in model.named_parameters() if one.requires_grad}
    found = set()
    for _ in range(3):  # of one step's sampled anchors none may be on the coarsest levels
        gradients = side.step(model, two_images(), ground_truth()).gradients
        found |= {name for name, gradient in gradients.items() if gradient.abs().max() > 0}
    assert found == wanted


def test_an_interrupted_training_ends_in_the_same_bytes(run, records, folder, tmp_path, execution, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        at_iteration(patched, 3, killed)  # the last checkpoint is that of iteration 2
        train(run, records, tmp_path, execution)
    session = train(run, records, tmp_path, execution)
    assert session.start == 2
    session.finish()
    assert left(tmp_path) == left(folder)


def test_the_same_seed_gives_the_same_bytes(adapter, run, records, folder, model, predictions, tmp_path, execution):
    trained(run, records, tmp_path, execution)
    assert left(tmp_path) == left(folder)
    for one, other in zip(predictions, adapter.predict(run, model, records), strict=True):
        for label, detections in one.test_stages.items():
            assert same(detections, other.test_stages[label])
            assert detections.masks == other.test_stages[label].masks


def test_predicts_every_test_stage_inside_the_image(run, records, predictions):
    assert [prediction.image_id for prediction in predictions] == [record.id for record in records]
    for record, prediction in zip(records, predictions, strict=True):
        assert list(prediction.test_stages) == [stage.label for stage in run.variant.test_stages]
        assert run.variant.headline in prediction.test_stages
        for label, found in {"proposals": prediction.proposals, **prediction.test_stages}.items():
            assert found.boxes.dtype == np.float32 and found.boxes.shape == (len(found.scores), 4), label
            assert (found.boxes >= 0).all() and (found.boxes[:, 2:] > found.boxes[:, :2]).all(), label
            assert (found.boxes <= [record.width, record.height] * 2).all(), label
            assert found.scores.dtype == np.float32 and found.labels.dtype == np.int64, label
            assert ((found.scores >= 0) & (found.scores <= 1)).all() and (np.diff(found.scores) <= 0).all(), label
            assert ((found.labels >= 0) & (found.labels < len(run.dataset.categories))).all(), label
            assert len(found.scores) <= max(run.protocol.inference.max_detections, run.protocol.rpn.test_post_nms)
            assert (found.masks is not None) == (run.variant.masks and label == run.variant.headline), label
            for mask in found.masks or ():
                lengths = {"size": [record.height, record.width], "counts": mask}
                assert problem_with(lengths, record.width, record.height) is None, label
    assert any(len(found.scores) for found in predictions[0].test_stages.values())
    assert any(len(prediction.proposals.scores) for prediction in predictions)


def test_trains_on_images_without_ground_truth(adapter, run):
    side = SIDES[run.framework](run)
    model = initial_model(adapter, run, with_weights=False)
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    for truth in ([none, ground_truth()[1]], [none, none]):
        step = side.step(model, two_images(), truth)
        assert all(math.isfinite(value) for value in step.losses.values())
        assert all(gradient.isfinite().all() for gradient in step.gradients.values())


def test_both_frameworks_agree(found):
    """Same weights and input: the same numbers in inference and in a step of training."""
    if set(found.card.frameworks) != set(SIDES):
        pytest.skip(f"the card of {found.card.name} names one framework")
    assert_agreement(*answers_of_both(found, {}))
