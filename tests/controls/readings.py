"""Readings as the adapters write them, made up from what the runs of a study must have."""

from pathlib import Path
from typing import Any

from cascadebench.controls.definitions import CONTROLS
from cascadebench.core.files import write_json
from cascadebench.study.run import Run
from cascadebench.study.study import Study

Controls = dict[str, list[dict[str, Any]]]

WITNESS = [{"step": "updates", "name": "forward passes", "value": 3, "wanted": 3}]
"""What every run did."""


def right_value(name: str, run: Run) -> Any:
    """A value that violates nothing: the expected one, or one that is equal wherever it is compared."""
    definition = CONTROLS[name]
    if definition.expected is not None:
        return definition.expected(run)
    if name == "model.trainable_parameters":
        return 3_000_000 + 1000 * run.variant.stages  # a declared treatment of both cards
    return f"{name} of seed {run.seed}" if definition.per_seed else name


def right_controls(study: Study) -> Controls:
    """Readings of every run of a study, without a violation."""
    return {
        run_id: [
            {"name": name, "value": right_value(name, study.run(run_id)), "read_from": f"model.{name}"}
            for name in CONTROLS
        ]
        for run_id in study.run_ids
    }


def change(controls: Controls, name: str, value: Any, *runs: str) -> None:
    """Set the value of a control in some runs."""
    for run in runs:
        next(entry for entry in controls[run] if entry["name"] == name)["value"] = value


def write_controls(results: Path, controls: Controls) -> None:
    """Write the readings as ``controls.json`` of the runs, and a witness that is the same for all."""
    for run, entries in controls.items():
        content = {"run": run, "versions": {"torch": "2"}, "controls": entries}
        write_json(results / "runs" / run / "controls.json", content)
        write_json(results / "runs" / run / "witness.json", {"run": run, "quantities": WITNESS})


def runs(study: Study, label: str = "", framework: str = "", seed: int = 0) -> list[str]:
    """Ids of the runs with this label, framework and seed; empty: any."""
    return [
        planned.run.id
        for planned in study.runs
        if label in ("", planned.label) and framework in ("", planned.run.framework) and planned.run.seed == seed
    ]
