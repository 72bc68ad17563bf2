"""Two processes train one model (gloo, on the CPU), as several GPUs would."""

import json
import subprocess
import sys

import pytest

from cascadebench.datasets.card import load_dataset_card
from cascadebench.datasets.prepare import prepare


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Twelve drawn images, prepared."""
    card = load_dataset_card("shapes")
    few = card.data.model_copy(update={"train_images": 12, "val_images": 4})
    folder = tmp_path_factory.mktemp("few")
    prepare(card.model_copy(update={"data": few}), folder / "shapes")
    return folder / "shapes"


@pytest.mark.parametrize("framework", ["mmdet", "detectron2"])
def test_two_processes_share_each_batch(framework, small_run, dataset, tmp_path):
    run = small_run(framework, "cascade_rcnn")
    run.write(tmp_path / "run.yaml")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--"]
    command = ["adapters", framework, "train", "--run", tmp_path / "run.yaml", "--out", tmp_path, "--data", dataset]
    done = subprocess.run([*launcher, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "trained.json").read_text())["processes"] == 2
    lines = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(6))
