"""With the same weights and the same input both frameworks give the same numbers.

Every variant that both frameworks have joins by itself. Weights are the common initial ones with noise on top, so that
boxes move and classes differ. Steps sample at random, as the protocol asks, and both frameworks draw the same.
"""

import hashlib
import json
from contextlib import contextmanager
from importlib import import_module
from unittest.mock import patch

import numpy as np
import pytest
import torch
from comparison import SHORT, differences_of_inference, differences_of_steps, ground_truth, run_of, two_images
from sides import SIDES
from trainings import control_values, log_of, train

from adapters.training.shared_sampling import draw
from cascadebench.core.configuration import CONFIG
from cascadebench.datasets.masks import bitmap
from cascadebench.study.study_file import Execution, load_protocol

FLOAT32 = 2.0**-23
"""Detections are stored in float32: the same number may be rounded to either of two neighbours."""


def test_the_models_have_the_same_weights(pair):
    states = []
    for side, model in pair:
        named = {side.common_name(name): tensor for name, tensor in model.state_dict().items()}
        named.pop(None, None)
        states.append(named)
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_inference_agrees(pair, record_property):
    one, other = (side.infer(model, two_images()) for side, model in pair)
    reached = differences_of_inference(one, other)
    assert sum(len(found) for found in one.proposals) > 50
    record_property("reached", json.dumps(reached))
    assert all(value <= 1e-9 for value in reached.values()), reached


def test_losses_and_gradients_agree(pair, record_property):
    one, other = (side.step(model, two_images(), ground_truth()) for side, model in pair)
    for side, model in pair:
        learning = {side.common_name(name) for name, weight in model.named_parameters() if weight.requires_grad}
        assert learning == one.gradients.keys() == other.gradients.keys()
    losses, gradients = differences_of_steps(one, other)
    worst = max(gradients, key=gradients.get)
    record_property("reached", json.dumps({"losses": losses, "gradients": {worst: gradients[worst]}}))
    assert all(value <= 1e-9 for value in losses.values()), losses
    assert gradients[worst] <= 1e-9, (worst, gradients[worst])


def test_final_detections_agree(pair, records):
    one, other = (list(side.adapter.predict(side.run, model.eval(), records[:4])) for side, model in pair)
    total = 0
    for first, second, record in zip(one, other, records[:4], strict=True):
        for label, detections in first.test_stages.items():
            expected = second.test_stages[label]
            assert len(detections.scores) == len(expected.scores), label
            total += len(detections.scores)
            partners = partners_of(detections, expected)
            assert np.allclose(detections.scores, expected.scores[partners], rtol=0, atol=FLOAT32)
            assert np.allclose(
                detections.boxes, expected.boxes[partners], rtol=0, atol=FLOAT32 * max(record.width, record.height)
            )
            assert (detections.labels == expected.labels[partners]).all()
            assert differing_pixels(detections.masks, expected.masks, partners, record) <= 1e-3
    assert total > 20


def partners_of(detections, expected) -> np.ndarray:
    """Of every detection the position of the same one in another list: equal scores may stand in another order."""
    rows = [np.column_stack([given.boxes, given.scores, 1000 * given.labels]) for given in (detections, expected)]
    distances = np.abs(rows[0][:, None] - rows[1][None]).max(axis=-1)
    partners = distances.argmin(axis=1) if len(rows[0]) else np.zeros(0, int)
    assert sorted(partners) == list(range(len(rows[1])))
    return partners


def differing_pixels(masks, expected, partners, record) -> float:
    """Share of the pixels of two frameworks' masks that differ; both of them give masks, or none."""
    assert (masks is None) == (expected is None)
    if not masks:
        return 0.0
    size = {"size": [record.height, record.width]}
    one, other = (
        np.array([bitmap(size | {"counts": counts}, record.width, record.height) for counts in given])
        for given in (masks, [expected[row] for row in partners])
    )
    return float(np.mean(one != other))


@contextmanager
def digests_of_draws(framework: str):
    """Hash, for every seed of an image and sampler, how many candidates there were and which were drawn."""
    found = {}

    def noting(positive, negative, number, positive_fraction, seed):
        drawn = draw(positive, negative, number, positive_fraction, seed)
        counts = [len(positive), int(positive.sum()), int(negative.sum())]
        assert seed not in found
        found[seed] = hashlib.sha256(str([counts, *(places.tolist() for places in drawn)]).encode()).hexdigest()
        return drawn

    with patch.object(import_module(f"adapters.{framework}.rules"), "draw", noting):
        yield found


def test_samples_and_loss_curves_agree(pair, records, tmp_path, record_property):
    """Trainings of both frameworks sample the same and have the same loss at every step."""
    curves, draws = [], []
    for side, _ in pair:
        with digests_of_draws(side.framework) as found:
            train(side.run, records, tmp_path / side.framework, Execution(log_interval=100), in_double=True).finish()
        curves.append(log_of(tmp_path / side.framework))
        draws.append(found)
    schedule = pair[0][0].run.protocol.schedule
    samplers = 2 + hasattr(pair[1][1].roi_heads, "regression_sampler")
    assert len(draws[0]) == samplers * schedule.iterations * schedule.batch_size
    assert draws[0] == draws[1]
    assert [line["consumed_sha256"] for line in curves[0]] == [line["consumed_sha256"] for line in curves[1]]
    assert np.allclose([line["lr"] for line in curves[0]], [line["lr"] for line in curves[1]], rtol=1e-9)
    one, other = (np.array([line["loss"] for line in lines]) for lines in curves)
    relative = np.abs(one - other) / one
    record_property("reached", json.dumps(relative.tolist()))
    assert len(one) == schedule.iterations
    assert relative.max() <= 1e-9, relative


AUTHORS = SHORT | {
    "rpn": {"smooth_l1_beta": 1 / 9},
    "heads": {"smooth_l1_beta": 1.0},
    "optimizer": {"bias_lr_factor": 2.0, "bias_decay_factor": 0.0},
    "backbone": {"frozen_stages": 2, "batch_norm": "frozen"},
}
"""Smooth L1, biases with a rate and decay of their own, and frozen batch norm, as authors' codes have them."""


def test_loss_curves_of_the_authors_protocol_agree(in_double, records, tmp_path):
    curves = []
    for framework in SIDES:
        run = run_of(framework, "cascade_rcnn", protocol=AUTHORS)
        train(run, records, tmp_path / framework, Execution(log_interval=100), in_double=True).finish()
        curves.append([line["loss"] for line in log_of(tmp_path / framework)])
    assert len(curves[0]) == AUTHORS["schedule"]["iterations"]
    assert np.allclose(*curves, rtol=1e-9, atol=0)


PROTOCOLS = [load_protocol(path.stem, {}, "test") for path in sorted((CONFIG / "protocols").glob("*.yaml"))]
# Others run in one framework alone: nothing to agree with.
ALIGNED = [protocol for protocol in PROTOCOLS if protocol.rules == "aligned"]


@pytest.mark.parametrize("protocol", ALIGNED, ids=[one.name for one in ALIGNED])
def test_learning_rates_agree_at_every_iteration(protocol):
    """Each framework's own schedule, stepped through, gives one hash."""
    hashes = set()
    for framework in SIDES:
        run = run_of(framework, "faster_rcnn").model_copy(update={"protocol": protocol})
        assert run.backbone.base_channels == 16, "the narrow backbone keeps this test quick"
        hashes.add(control_values(run)["schedule.learning_rates_sha256"])
    assert len(hashes) == 1
