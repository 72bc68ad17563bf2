"""A step divided among two processes (gloo, on the CPU, as several GPUs would), or among two passes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_images import few_shapes
from trainings import changed, command, log_of, train

from adapters.commands import initial_model, load_adapter
from adapters.training.step_parts import check_division
from cascadebench.core.errors import InputError
from cascadebench.core.files import read_json
from cascadebench.datasets.prepared import load_split, trainable
from cascadebench.determinism.training_order import planned_chains, training_order
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Forty drawn images, prepared: five steps of 16 meet each twice."""
    return few_shapes(tmp_path_factory.mktemp("few") / "shapes", 40, 4)


@pytest.fixture
def divisible_run(small_run):
    """Return a function that makes a run of five steps of 16 small images, whose batch norm learns from no batch."""

    def make(framework: str, variant: str, **options) -> Run:
        changes = {
            "schedule": {"iterations": 5, "batch_size": 16},
            "backbone": {"batch_norm": "fixed_statistics"},
            "input": {"train_short_sides": (64,), "max_long_side": 64},
            # RoIs so few that every image has them; proposals so few that no two of nearly equal scores change places.
            "heads": {"rois_per_image": 16},
            "rpn": {"train_post_nms": 32},
        }
        return changed(small_run(framework, variant, **options), **changes)

    return make


def train_here(run: Run, folder: Path, dataset: Path, accumulation: int) -> dict[str, torch.Tensor]:
    """Train a run in this process; return its weights."""
    session = train(run, trainable(load_split(dataset, "train")), folder, Execution(accumulation=accumulation))
    check_summary(session.finish(), run, 1, accumulation)
    return torch.load(session.checkpoint, weights_only=True)["model"]


def train_in_two_processes(run: Run, folder: Path, dataset: Path, accumulation: int) -> dict[str, torch.Tensor]:
    """Train a run in two processes; return its checkpoint's weights."""
    options = ["--processes", "2", "--accumulation", str(accumulation)]
    assert command(run, "train", folder, dataset, *options) == 0
    check_summary(read_json(folder / "trained.json"), run, 2, accumulation)
    lines, records = log_of(folder), trainable(load_split(dataset, "train"))
    assert [line["iteration"] for line in lines] == list(range(run.protocol.schedule.iterations))
    planned = planned_chains(records, training_order(records, run.protocol, run.seed), run.protocol.input.max_long_side)
    assert [line["consumed_sha256"] for line in lines] == list(planned)  # of the images of both processes
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"]


def check_summary(trained: dict[str, Any], run: Run, processes: int, accumulation: int) -> None:
    """Compare what a training says of its steps with what was asked for."""
    assert (trained["processes"], trained["accumulation"]) == (processes, accumulation)
    assert trained["images_per_step"] == run.protocol.schedule.batch_size


def test_a_divided_step_is_the_whole_step(framework, divisible_run, dataset, tmp_path):
    run = divisible_run(framework, "cascade_rcnn")
    whole = train_here(run, tmp_path / "whole", dataset, 1)
    begin = initial_model(load_adapter(framework), run, with_weights=False).state_dict()
    assert farthest(whole, begin) > 1e-3  # the comparison is of trainings that went somewhere
    assert farthest(train_here(run, tmp_path / "passes", dataset, 2), whole) < 1e-5
    for accumulation in (1, 2):
        folder = tmp_path / f"two_processes_{accumulation}"
        folder.mkdir()
        assert farthest(train_in_two_processes(run, folder, dataset, accumulation), whole) < 1e-5, accumulation


def farthest(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    """Greatest difference of a number in two models of one kind."""
    assert weights.keys() == others.keys()
    return max(float((weights[name] - others[name]).abs().max()) for name in weights)


def test_heads_with_batch_norm_are_not_divided(framework, divisible_run):
    run = divisible_run(framework, "decoupled_rcnn", double_head=True)
    model = load_adapter(framework).build_model(run)
    for processes, passes, key in ((1, 2, "accumulation"), (2, 1, "gpus")):
        with pytest.raises(
            InputError, match=rf"{key}: 2: batch norm .* in decoupled_rcnn \(.*norm1\); only 1 is allowed"
        ):
            check_division(run, model, processes, passes)
    check_division(run, model, 1, 1)


def test_what_cannot_be_divided_is_refused(small_run, divisible_run):
    model = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match=r"a batch of 16 images cannot be divided among 3 process\(es\) with 1 pass"):
        check_division(divisible_run("mmdet", "faster_rcnn"), model, 3, 1)
    with pytest.raises(InputError, match=r"execution.accumulation: 2: batch norm would learn .* in protocol tiny"):
        check_division(small_run("mmdet", "faster_rcnn"), model, 1, 2)
    with pytest.raises(InputError, match=r"execution.gpus: 2: batch norm would learn .* in protocol tiny"):
        check_division(small_run("mmdet", "faster_rcnn"), model, 2, 1)
    for framework in ("mmdet", "detectron2"):
        run = divisible_run(framework, "faster_rcnn")
        check_division(run, load_adapter(framework).build_model(run), 2, 2)
