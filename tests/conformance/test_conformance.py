"""What every variant must do in every framework: ``pytest tests/conformance --variant NAME``.

Without ``--variant`` all of the project's own are examined; ``--variant-folder DIR`` says where to find others.
"""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from adapters.commands import initial_model
from adapters.contract import Prediction
from adapters.training.training_session import TrainingSession
from cascadebench.controls.audit import audit
from cascadebench.controls.definitions import CONTROLS
from cascadebench.datasets.masks import problem_with
from cascadebench.determinism.training_order import training_order


def train(adapter, run, records, folder, execution, until: int | None = None):
    """Train in a folder, resuming what is there; stop as if killed after iteration `until`. Returns the session."""
    session = TrainingSession(run, folder, torch.device("cpu"), execution)
    if until:
        after = session.after_iteration

        def killed(iteration, *arguments):
            after(iteration, *arguments)
            if iteration + 1 == until:
                raise KeyboardInterrupt

        session.after_iteration = killed
    model = initial_model(adapter, run, with_weights=False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    trained = [record for record in records if len(record.boxes)]
    try:
        adapter.train(run, model, trained, training_order(trained, run.protocol, run.seed), session)
    except KeyboardInterrupt:
        assert until
    finally:
        session.finish()
    return session


@pytest.fixture(scope="module")
def trained(adapter, run, records, tmp_path_factory):
    """Folder of an undisturbed training, and the model with its weights."""
    from cascadebench.study.study_file import Execution

    folder = tmp_path_factory.mktemp("trained")
    train(adapter, run, records, folder, Execution(checkpoint_interval=2, log_interval=10))
    model = initial_model(adapter, run, with_weights=False)
    model.load_state_dict(torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"])
    return folder, model.eval()


@pytest.fixture(scope="module")
def predictions(adapter, run, records, trained) -> list[Prediction]:
    """What the trained model sees on all images, the one without anything to see among them."""
    return list(adapter.predict(run, trained[1], records))


def test_builds_inspects_and_passes_the_audit_but_for_its_treatment(study, planned):
    """Against the baseline only what the card declares differs; between the frameworks nothing does."""
    from adapters.commands import load_adapter

    readings = {}
    for one in study.runs:
        built = load_adapter(one.run.framework)
        readings[one.run.id] = [asdict(control) for control in built.read_controls(built.build(one.run))]
    assert {entry["name"] for entry in readings[planned.run.id]} == set(CONTROLS)
    violations = audit(study, readings).of_kind("violation")
    assert [(found.control, found.check, found.value, found.other) for found in violations] == []


def test_trains_with_finite_loss(trained, run):
    lines = [json.loads(line) for line in (trained[0] / "train_log.jsonl").read_text().splitlines()]
    assert len(lines) == run.protocol.schedule.iterations
    for line in lines:
        assert math.isfinite(line["loss"])
        assert "rpn_classification" in line["losses"]
        assert any(name.startswith("stage1_") for name in line["losses"])


def test_every_parameter_that_should_train_receives_gradient(adapter, run, found):
    from comparison import add_noise, ground_truth, run_of, two_images
    from sides import Detectron2Side, MMDetectionSide

    side = {"mmdet": MMDetectionSide, "detectron2": Detectron2Side}[run.framework](run)
    model = initial_model(adapter, run_of(run.framework, found), with_weights=False)
    add_noise(model, side.common_name)  # layers that start at zero pass no gradient on
    wanted = {side.common_name(name) for name, one in model.named_parameters() if one.requires_grad}
    found = set()
    for _ in range(3):  # of one step's sampled anchors none may be on the coarsest levels
        gradients = side.step(model, two_images(), ground_truth()).gradients
        found |= {name for name, gradient in gradients.items() if gradient.abs().max() > 0}
    assert found == wanted


def test_an_interrupted_training_ends_in_the_same_bytes(adapter, run, records, trained, tmp_path, execution):
    train(adapter, run, records, tmp_path, execution, until=3)  # the last checkpoint is that of iteration 2
    session = train(adapter, run, records, tmp_path, execution)
    assert session.start == 2
    one, other = (
        torch.load(folder / "checkpoints" / "last.pt", weights_only=True) for folder in (trained[0], tmp_path)
    )
    assert one["model"].keys() == other["model"].keys()
    for name, tensor in one["model"].items():
        assert torch.equal(tensor, other["model"][name]), name


def test_the_same_seed_gives_the_same_bytes(adapter, run, records, trained, predictions, tmp_path, execution):
    train(adapter, run, records, tmp_path, execution)
    first, second = (folder / "checkpoints" / "last.pt" for folder in (trained[0], tmp_path))
    assert first.read_bytes() == second.read_bytes()
    for one, other in zip(predictions, adapter.predict(run, trained[1], records), strict=True):
        for label, detections in one.test_stages.items():
            for part in ("boxes", "scores", "labels"):
                assert getattr(detections, part).tobytes() == getattr(other.test_stages[label], part).tobytes()
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
    from comparison import ground_truth, two_images
    from sides import Detectron2Side, MMDetectionSide

    side = {"mmdet": MMDetectionSide, "detectron2": Detectron2Side}[run.framework](run)
    model = initial_model(adapter, run, with_weights=False)
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    for truth in ([none, ground_truth()[1]], [none, none]):
        step = side.step(model, two_images(), truth)
        assert all(math.isfinite(value) for value in step.losses.values())
        assert all(gradient.isfinite().all() for gradient in step.gradients.values())


def test_both_frameworks_agree(found):
    """Same weights and input: the same numbers in inference and in a step of training."""
    from comparison import answers_of_both, assert_agreement

    if set(found.card.frameworks) != {"mmdet", "detectron2"}:
        pytest.skip(f"the card of {found.card.name} names one framework")
    assert_agreement(*answers_of_both(found))
