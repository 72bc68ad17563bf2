"""From the outputs of stages to the test stages of a cascade, against formulas written out by hand."""

import numpy as np
import pytest
import torch

from adapters.prediction import score_rules
from adapters.prediction.score_rules import StageOutputs, boxes_and_scores, effective_score_rule
from cascadebench.detectors.inference_stages import all_test_stages


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_every_test_stage_of_a_cascade():
    random = np.random.default_rng(0)
    boxes, logits, last = (random.normal(size=(3, 7, 4)) for _ in range(3))
    outputs = StageOutputs(*([torch.from_numpy(one) for one in part] for part in (boxes, logits, last)))
    found = {stage.label: (b.numpy(), s.numpy()) for stage, b, s in boxes_and_scores(all_test_stages(3, 3), outputs)}
    expected = {f"({i},{j})": (boxes[i - 1], softmax(logits[j - 1])) for i in (1, 2, 3) for j in range(1, i + 1)}
    expected["(3,1-3) probabilities"] = boxes[2], np.mean([softmax(one) for one in logits], axis=0)
    expected["(3,1-3) logits"] = boxes[2], softmax(logits.mean(0))
    expected["(3,1-3) last RoIs"] = boxes[2], np.mean([softmax(one) for one in last], axis=0)
    assert list(found) == [stage.label for stage in all_test_stages(3, 3)]
    assert found.keys() == expected.keys()
    for label, (b, s) in expected.items():
        assert np.array_equal(found[label][0], b), label
        assert np.allclose(found[label][1], s), label


@pytest.mark.parametrize(("stages", "classifiers"), [(1, 1), (2, 2), (3, 3), (4, 4), (3, 1), (3, 2), (1, 3)])
def test_the_probe_names_every_test_stage(stages, classifiers):
    for stage in all_test_stages(stages, classifiers):
        assert effective_score_rule(stages, classifiers, stage.label) == stage.label


def test_the_probe_sees_another_rule(monkeypatch):
    """Average logits where probabilities are asked for."""
    right = boxes_and_scores

    def wrong(test_stages, outputs):
        given = {stage.label: (boxes, scores) for stage, boxes, scores in right(test_stages, outputs)}
        for stage in test_stages:
            boxes, scores = given["(3,1-3) logits" if stage.rule == "probabilities" else stage.label]
            yield stage, boxes, scores

    monkeypatch.setattr(score_rules, "boxes_and_scores", wrong)
    assert effective_score_rule(3, 3, "(3,1-3) probabilities") == "(3,1-3) logits"
