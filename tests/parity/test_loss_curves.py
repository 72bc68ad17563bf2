"""Trainings of both frameworks have the same loss at every step."""

import json

import numpy as np
import torch

from adapters.training.training_session import TrainingSession
from cascadebench.determinism.training_order import training_order
from cascadebench.study.study_file import Execution


def test_loss_curves_agree(pair, records, tmp_path, record_property):
    curves = []
    for side, run, _ in pair:
        out = tmp_path / side.framework
        session = TrainingSession(run, out, torch.device("cpu"), Execution(log_interval=100))
        model = side.adapter.build_model(run).double()
        side.adapter.train(run, model, records, training_order(records, run.protocol, run.seed), session)
        session.finish()
        curves.append([json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()])
    assert [line["consumed_sha256"] for line in curves[0]] == [line["consumed_sha256"] for line in curves[1]]
    assert np.allclose([line["lr"] for line in curves[0]], [line["lr"] for line in curves[1]], rtol=1e-9)
    one, other = (np.array([line["loss"] for line in lines]) for lines in curves)
    relative = np.abs(one - other) / one
    record_property("reached", json.dumps(relative.tolist()))
    assert len(one) == pair[0][1].protocol.schedule.iterations
    assert relative.max() <= 1e-9, relative
