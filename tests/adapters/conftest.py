"""A handful of drawn images and small runs, for the adapters' tests."""

import pytest
import torch
from drawn_images import rectangles
from trainings import changed, run_of

from cascadebench.datasets.prepared import ImageRecord
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution

torch.set_num_threads(1)


@pytest.fixture(params=["mmdet", "detectron2"])
def framework(request) -> str:
    """Each framework in turn."""
    return request.param


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> list[ImageRecord]:
    """Six images with one or two rectangles each, one of them portrait, the last without ground truth."""
    return rectangles(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def small_run():
    """Return a function that makes the run of a framework and variant, with a schedule of six iterations."""

    def make(framework: str, variant: str, **options) -> Run:
        schedule = {"iterations": 6, "warmup_iterations": 2, "steps": (4,), "batch_size": 2, "base_lr": 0.005}
        return changed(run_of(framework, variant, **options), schedule=schedule)

    return make


@pytest.fixture
def execution() -> Execution:
    """Checkpoints every three iterations."""
    return Execution(checkpoint_interval=3, log_interval=1)
