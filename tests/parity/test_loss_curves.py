"""Trainings of both frameworks sample the same and have the same loss at every step."""

import hashlib
import json
from contextlib import contextmanager
from importlib import import_module
from unittest.mock import patch

import numpy as np
import torch

from adapters.training.shared_sampling import draw
from adapters.training.training_session import TrainingSession
from cascadebench.determinism.training_order import training_order
from cascadebench.study.study_file import Execution


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

    with patch.object(import_module(f"adapters.{framework}.common_rules"), "draw", noting):
        yield found


def test_samples_and_loss_curves_agree(pair, records, tmp_path, record_property):
    curves, draws = [], []
    for side, run, _ in pair:
        out = tmp_path / side.framework
        session = TrainingSession(run, out, torch.device("cpu"), Execution(log_interval=100))
        model = side.adapter.build_model(run).double()
        with digests_of_draws(side.framework) as found:
            side.adapter.train(run, model, records, training_order(records, run.protocol, run.seed), session)
        session.finish()
        curves.append([json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()])
        draws.append(found)
    schedule = pair[0][1].protocol.schedule
    samplers = 2 + hasattr(pair[1][2].roi_heads, "regression_sampler")
    assert len(draws[0]) == samplers * schedule.iterations * schedule.batch_size
    assert draws[0] == draws[1]
    assert [line["consumed_sha256"] for line in curves[0]] == [line["consumed_sha256"] for line in curves[1]]
    assert np.allclose([line["lr"] for line in curves[0]], [line["lr"] for line in curves[1]], rtol=1e-9)
    one, other = (np.array([line["loss"] for line in lines]) for lines in curves)
    relative = np.abs(one - other) / one
    record_property("reached", json.dumps(relative.tolist()))
    assert len(one) == schedule.iterations
    assert relative.max() <= 1e-9, relative
