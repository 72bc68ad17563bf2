"""What counts as the time of a step, and what torch computes with."""

import time

import torch
from torch import nn

from adapters.training.arithmetic import arithmetic, set_arithmetic
from adapters.training.training_session import TrainingSession


def test_reading_the_batch_counts_before_a_step_and_within_it(small_run, execution, tmp_path):
    """One engine asks for the batch before it announces the step, the other after."""
    session = TrainingSession(small_run("mmdet", "faster_rcnn"), tmp_path, torch.device("cpu"), execution)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session.restore(model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1))
    for iteration, (before, within) in enumerate([(0.2, 0.0), (0.0, 0.2)], start=1):  # the first step is recorded
        time.sleep(before)
        session.before_iteration(iteration)
        time.sleep(within)
        session.after_iteration(iteration, {"classification": torch.tensor(1.0)}, 0.1, [(1, False, 64), (2, False, 64)])
    assert min(session.seconds) >= 0.2


def test_float32_is_whole_and_kernels_are_not_tried_out():
    before = torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    try:
        set_arithmetic(deterministic=True)
        found = arithmetic()
    finally:
        torch.use_deterministic_algorithms(before)
    off = ("tf32_products", "tf32_convolutions", "cudnn_benchmark")
    assert [found[name] for name in off] == [False, False, False]
    assert found["deterministic"] is True
