"""Seeding a step: torch's own numbers, without what torch keeps for devices that nobody uses."""

import random
import traceback

import numpy as np
import pytest
import torch

from adapters.training.seeding import seed_everything, seed_torch


def test_numbers_are_those_of_torchs_own_seeding():
    torch.manual_seed(2**63 + 5)
    expected = torch.rand(4), torch.randperm(9)
    seed_torch(2**63 + 5)
    assert torch.equal(torch.rand(4), expected[0])
    assert torch.equal(torch.randperm(9), expected[1])


@pytest.mark.skipif(torch.cuda.is_initialized(), reason="a GPU is in use, and its generator is seeded at once")
def test_nothing_is_kept_for_devices_that_are_not_used(monkeypatch):
    monkeypatch.setattr(traceback, "format_stack", lambda *_: pytest.fail("torch keeps the call for a device"))
    seed_torch(1)
    with pytest.raises(pytest.fail.Exception):
        torch.manual_seed(1)


def test_everything_begins_anew():
    drawn = []
    for _ in range(2):
        seed_everything(2**40 + 1)
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
