"""With the same weights and the same input both frameworks give the same numbers.

Every variant that both frameworks have joins by itself. Weights are the common initial ones with noise on top, so that
boxes move and classes differ. Steps sample at random, as the protocol asks, and both frameworks draw the same.
"""

import json

import numpy as np
import torch
from comparison import BOTH, differences_of_inference, differences_of_steps

from cascadebench.datasets.masks import bitmap
from cascadebench.detectors.cards import load_framework_card

FLOAT32 = 2.0**-23
"""Detections are stored in float32: the same number may be rounded to either of two neighbours."""


def test_the_models_have_the_same_weights(pair):
    states = []
    for side, _, model in pair:
        named = {side.common_name(name): tensor for name, tensor in model.state_dict().items()}
        named.pop(None, None)
        states.append(named)
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_inference_agrees(pair, images, record_property):
    one, other = (side.infer(model, images) for side, _, model in pair)
    reached = differences_of_inference(one, other)
    assert sum(len(found) for found in one.proposals) > 50
    record_property("reached", json.dumps(reached))
    assert all(value <= 1e-9 for value in reached.values()), reached


def test_losses_and_gradients_agree(pair, images, truth, record_property):
    one, other = (side.step(model, images, truth) for side, _, model in pair)
    losses, gradients = differences_of_steps(one, other)
    worst = max(gradients, key=gradients.get)
    record_property("reached", json.dumps({"losses": losses, "gradients": {worst: gradients[worst]}}))
    assert all(value <= 1e-9 for value in losses.values()), losses
    assert gradients[worst] <= 1e-9, (worst, gradients[worst])


def test_every_parameter_gets_a_gradient(pair, images, truth):
    for side, _, model in pair:
        gradients = side.step(model, images, truth).gradients
        wanted = {side.common_name(name) for name, p in model.named_parameters() if p.requires_grad}
        assert wanted == set(gradients)


def test_final_detections_agree(pair, records):
    one, other = (list(side.adapter.predict(run, model.eval(), records[:4])) for side, run, model in pair)
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


def test_both_frameworks_are_known():
    assert {load_framework_card(name).name for name in BOTH} == set(BOTH)
