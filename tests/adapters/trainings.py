"""Small runs with some values changed, their training, and what it leaves."""

import json
from pathlib import Path
from typing import Any

import torch

from adapters.command_line import main
from adapters.commands import initial_model, load_adapter
from adapters.training.checkpoints import Checkpoints
from adapters.training.training_session import TrainingSession
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.variant_catalog import FoundVariant, find_variant
from cascadebench.determinism.training_order import training_order
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution
from cascadebench.study_loading import chosen_variant, load_study


def run_of(framework: str, variant: str | FoundVariant, study: str = "tiny", **options) -> Run:
    """A framework's first run of a study, with another variant."""
    found = find_variant(variant, "test") if isinstance(variant, str) else variant
    chosen = chosen_variant(found, found.card.complete_options(options, "test"), "test")
    run = next(planned.run for planned in load_study(study).runs if planned.run.framework == framework)
    return run.model_copy(update={"variant": chosen})


def changed(run: Run, rules: str | None = None, **parts: dict[str, Any]) -> Run:
    """A run with some values of its protocol changed: ``schedule={"iterations": 5}``; `rules`: whose it keeps."""
    update = {name: getattr(run.protocol, name).model_copy(update=values) for name, values in parts.items()}
    update |= {"rules": rules} if rules else {}
    return run.model_copy(update={"protocol": run.protocol.model_copy(update=update)})


def control_values(run: Run) -> dict[str, Any]:
    """Values of a run's controls by name, read from what its adapter builds."""
    adapter = load_adapter(run.framework)
    return {control.name: control.value for control in adapter.read_controls(adapter.build(run))}


def with_truth(records: list[ImageRecord]) -> list[ImageRecord]:
    """The images that a training reads."""
    return [record for record in records if len(record.boxes)]


def train(
    run: Run, records: list[ImageRecord], out: Path, execution: Execution, in_double: bool = False
) -> TrainingSession:
    """Train a run in a folder on the images with ground truth; returns the session, which is not finished."""
    adapter = load_adapter(run.framework)
    session = TrainingSession(run, out, torch.device("cpu"), execution)
    model = initial_model(adapter, run, with_weights=False)
    model = model.double() if in_double else model
    order = training_order(with_truth(records), run.protocol, run.seed)
    adapter.train(run, model, with_truth(records), order, session)
    return session


def trained(run: Run, records: list[ImageRecord], out: Path, execution: Execution) -> dict[str, Any]:
    """Train a run in a folder on the images with ground truth; returns its last checkpoint."""
    train(run, records, out, execution).finish()
    return torch.load(out / "checkpoints" / "last.pt", weights_only=True)


def trained_model(run: Run, state: dict[str, Any]) -> torch.nn.Module:
    """A run's model in test mode with the weights of a checkpoint."""
    model = initial_model(load_adapter(run.framework), run, with_weights=False)
    model.load_state_dict(state["model"])
    return model.eval()


def at_iteration(monkeypatch, wanted: int, act) -> None:
    """Do something with the losses of a step, from 0, before the training hears of it."""
    after = TrainingSession.after_iteration

    def patched(self, iteration, losses, *arguments):
        if iteration == wanted:
            act(losses)
        after(self, iteration, losses, *arguments)

    monkeypatch.setattr(TrainingSession, "after_iteration", patched)


def killed(_losses) -> None:
    """End a training in the middle of a step."""
    raise KeyboardInterrupt


def log_of(out: Path) -> list[dict[str, Any]]:
    """Lines of a training's log, without the seconds."""
    return [json.loads(line) | {"seconds": 0} for line in (out / "train_log.jsonl").read_text().splitlines()]


def left(out: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """What a training leaves: its log, and the bytes of its checkpoint and of its stages' statistics."""
    return log_of(out), [(out / name).read_bytes() for name in ("checkpoints/last.pt", "stage_statistics.parquet")]


def words(run: Run, name: str, out: Path, data: Path, *more: str) -> list[str]:
    """Command line of a command of the adapters on a run, whose file it writes into its folder."""
    run.write(out / "run.yaml")
    return [run.framework, name, "--run", str(out / "run.yaml"), "--out", str(out), "--data", str(data), *more]


def command(*given) -> int:
    """Run a command of the adapters on a run, as :func:`words` writes it."""
    return main(words(*given))


def save_model(run: Run, folder: Path, model: torch.nn.Module) -> None:
    """Write a model as the last checkpoint of a run's training."""
    state = {"iteration": run.protocol.schedule.iterations, "consumed_sha256": "", "model": model.state_dict()}
    Checkpoints(folder / "checkpoints").save(state | {"optimizer": {}, "scheduler": {}})


def same(one, other) -> bool:
    """Whether two detections of one test stage are the same to the last bit."""
    pairs = ((getattr(one, part), getattr(other, part)) for part in ("boxes", "scores", "labels"))
    return all(first.tobytes() == second.tobytes() for first, second in pairs)
