"""``docs/controlled-variables.md``: every control with what it must be and where each framework's is read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cascadebench.controls.audit_files import read_controls
from cascadebench.controls.control_definition import ControlDefinition
from cascadebench.controls.definitions import CONTROLS, GROUPS
from cascadebench.controls.witness import STEPS
from cascadebench.core.errors import InputError
from cascadebench.core.files import write_text
from cascadebench.detectors.cards import load_framework_card
from cascadebench.results.layout import ResultsFolder
from cascadebench.study.run import Run
from cascadebench.study.study import Study

INTRODUCTION = """# Controlled variables

Written by `make docs` from the definitions under `cascadebench/controls/` and from the inspection of a Cascade R-CNN in
each framework. Do not edit.

A control is a named effective value of a run, read back from what was built for it. What is no attribute is probed:
something small is run, and its result is the value. `results/runs/<run>/controls.json` holds the values of a run,
`cascadebench audit STUDY` compares those of a study, and no run of a study trains while one is violated.

| kind | what it must be |
|-|-|
| protocol | what the run's protocol, backbone or variant says, in every framework |
| equal | equal in all runs that it is compared over, whatever it is; "per seed": in the runs of one seed |
| framework | equal within a framework; frameworks differ for the stated reason |
| record | recorded, never compared |

Within a framework a variant may differ from the baseline only in the controls that its card
(`adapters/variants/*/card.yaml`) declares as its treatment. A study may accept a violation, with a reason
(`accepted_violations` in its file); the report shows it.

The column "expected" says which value of the run decides, or the value itself where it is the same for every run.
"""

WITNESS = """## What no control names: the witness

A list of values shows only what is on it. So every run also does each of its things once at its inspection, with the
objects that will train and test: on two fixed pictures and from fixed weights, in double precision, without data and
without a file of weights. What comes out stands in `results/runs/<run>/witness.json`, and the audit compares it:

- with a plain computation from the protocol, the backbone and the variant's card, where there is one: pictures, order,
  initial numbers, SGD, losses of the heads, what stages read (a variant's `reference.py`), detections from given boxes;
- with the baseline's in the same framework, to the bit, unless a control that the step follows from differs. That
  control is the variant's treatment, or a violation by itself;
- with other seeds', to the bit, but for initial numbers and order;
- with the other framework's, to a relative 1e-8, or 1e-5 where numbers are handed over in float32. Under a framework's
  own rules (`rules: mmdet` or `detectron2`) not.

A difference is a violation, and names the step, the first quantity that differs in it, both numbers and both runs.

| step | what comes out | follows from the controls |
|-|-|-|
{steps}

Limits: the network runs on pictures of 48 pixels, so what happens only on large ones is not seen. What begins from
fixed weights is done once in an inspection for all seeds of a detector. Residual convolutions of a regressor, and what
a variant without `reference.py` adds, have no plain computation: there the frameworks are compared with each other
alone. What begins after some steps of a training is seen in the records of that training, if at all.
"""


class _Watched:
    """Stands for a part of a run and notes which of its values are read."""

    def __init__(self, part: BaseModel, path: str, read: list[str]) -> None:
        self._part, self._path, self._read = part, path, read

    def __getattr__(self, name: str) -> Any:
        found, path = getattr(self._part, name), f"{self._path}{name}"
        if isinstance(found, BaseModel):
            return _Watched(found, f"{path}.", self._read)
        self._read.append(self._path.removesuffix(".") if callable(found) else path)
        return found


def expected_from(definition: ControlDefinition, run: Run) -> str:
    """Values of the run that decide what a control must be; the value itself if none does."""
    if definition.expected is None:
        over = "per seed" if definition.per_seed else "in all runs"
        return {"equal": f"equal {over}", "framework": "equal within a framework"}.get(definition.kind, "")
    read: list[str] = []
    value = definition.expected(_Watched(run, "", read))
    widest = [path for path in dict.fromkeys(read) if not any(path.startswith(f"{other}.") for other in read)]
    return ", ".join(f"`{path}`" for path in widest) or f"`{json.dumps(value)}`"


def write_page(study: Study, results: Path, out: Path) -> None:
    """Write the page.

    Parameters
    ----------
    study : Study
        Of each framework, the inspected run with the most stages says where the controls are read.
    results : Path
        The folder that holds ``runs/``.
    out : Path
        The page.

    Raises
    ------
    InputError
        If such a run has not been inspected, or a control was not read in it.
    """
    places = {framework: _places(study, framework, results) for framework in study.file.frameworks}
    run = max((planned.run for planned in study.runs), key=lambda one: one.variant.stages)
    write_text(out, page(run, places))


def _places(study: Study, framework: str, results: Path) -> dict[str, str]:
    """Where a framework's controls are read, by name."""
    runs = [planned.run for planned in study.runs if planned.run.framework == framework]
    path = ResultsFolder(results).run(max(runs, key=lambda run: run.variant.stages).id).controls
    found = {entry["name"]: entry["read_from"] for entry in read_controls(path)}
    if missing := [name for name in CONTROLS if name not in found]:
        raise InputError(f"{path}: controls: {len(missing)} are missing, among them {missing[0]}")
    return found


def page(run: Run, places: Mapping[str, Mapping[str, str]]) -> str:
    """Text of the page.

    Parameters
    ----------
    run : Run
        Any run; what a control is expected from is found by asking for its value.
    places : mapping of str to mapping
        By framework and control, the code that its value is read from.
    """
    titles = [f"read in {load_framework_card(framework).title}" for framework in places]
    head = ["name", "meaning", "unit", "kind", "expected", *titles]
    parts = [INTRODUCTION]
    for group, definitions in GROUPS.items():
        rows = [head]
        for one in definitions:
            read = [_code(found.get(one.name, "")) for found in places.values()]
            rows.append([f"`{one.name}`", one.meaning, one.unit, one.kind, expected_from(one, run), *read])
        lines = [f"| {' | '.join(cells)} |\n" for cells in rows]
        parts.append(f"\n## {group}\n\n" + "".join([lines[0], "|" + "-|" * len(head) + "\n", *lines[1:]]))
    steps = [
        f"| {name} | {step.outcome} | {', '.join(f'`{one}*`' for one in step.follows_from)} |"
        for name, step in STEPS.items()
    ]
    parts.append("\n" + WITNESS.format(steps="\n".join(steps)))
    differing = [one for one in CONTROLS.values() if one.kind == "framework"]
    parts.append("\n## Differences between frameworks\n\n")
    parts.append("".join(f"- `{one.name}`: {one.reason}\n" for one in differing) or "None.\n")
    return "".join(parts)


def _code(text: str) -> str:
    """Code in a cell of a table: pipes would end the cell, and backticks the code."""
    return f"`{text.replace('|', chr(92) + '|').replace('`', chr(39))}`" if text else ""
