"""What a run did at its inspection, and how two runs' doings are compared.

A control is one value that somebody listed. A witness is what came out when the run's own objects did their work once,
on fixed pictures and from fixed weights: whatever changes the work changes the numbers, listed or not.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cascadebench.controls.findings import PROTOCOL, Check, Finding, Readings
from cascadebench.core.configuration import Configuration, validated
from cascadebench.core.files import read_json
from cascadebench.results.layout import RunFolder
from cascadebench.study.study import PlannedRun, Study

Value = Any
"""A number, a text or a list of them."""
Quantities = Sequence[Mapping[str, Any]]
"""A run's witness: ``step``, ``name``, ``value`` and ``wanted`` of each :class:`Quantity`."""


class Quantity(Configuration):
    """One thing that came out.

    Attributes
    ----------
    step : str
        What was done, one of :data:`STEPS`.
    name : str
        What came out of it; common to all frameworks.
    value : number, str or list of them
        The numbers, or a digest.
    wanted : number, str, list of them, or None
        What a plain computation from the run's protocol, backbone and variant gives; None: there is none.
    """

    step: str
    name: str
    value: Value
    wanted: Value = None


class WitnessFile(Configuration):
    """``witness.json`` of a run."""

    run: str
    quantities: tuple[Quantity, ...]


PICTURE = ("input.",)
TRUNK = (*PICTURE, "backbone.", "neck.", "training.precision")
PROPOSALS = (*TRUNK, "rpn.")
FIRST_STAGE = (*PROPOSALS, "heads.")
EVERYTHING = (*FIRST_STAGE, "inference.", "masks.")


class Step(NamedTuple):
    """Something that a run does once."""

    outcome: str
    """What comes out of it, in words."""
    follows_from: tuple[str, ...]
    """Beginnings of the names of the controls that decide it."""


STEPS: dict[str, Step] = {
    "initial numbers": Step("numbers of every part, and tensors that do not start from the seed",
                            (*EVERYTHING, "weights.")),
    "order": Step("images, flips and sizes of the whole schedule", ("training.", "schedule.", "input.")),
    "training pictures": Step("pixels, boxes, labels and masks of two items, one of them mirrored", PICTURE),
    "test picture": Step("pixels of a picture for testing", PICTURE),
    "updates": Step("what three steps of the loop make of a given gradient", ("training.", "schedule.", "optimizer.")),
    "hooks": Step("what takes part in the loop, and which modules have hooks", ("training.weight_averaging",)),
    "network input": Step("a normalised, padded batch", PICTURE),
    "proposal network": Step("its losses, and the gradients that they send into every parameter", PROPOSALS),
    "first stage": Step("its RoIs and losses, and the gradients of its head", FIRST_STAGE),
    "whole step": Step("RoIs and losses of later stages, masks, all gradients, buffers afterwards", EVERYTHING),
    "heads": Step("outputs and gradients of every stage on given RoIs", EVERYTHING),
    "losses of the heads": Step("losses of every head on given maps and boxes, and what enters later ones", EVERYTHING),
    "proposals at test": Step("proposals on a small picture", PROPOSALS),
    "first stage at test": Step("its detections on a small picture, and from given boxes and scores",
                                (*FIRST_STAGE, "inference.")),
    "all stages at test": Step("detections of every other test stage on a small picture", EVERYTHING),
}  # fmt: skip
OF_ONE_FRAMEWORK = {"hooks"}
"""Steps that two frameworks do in ways of their own."""
OF_THE_SEED = {"initial numbers", "order"}
"""Steps that two seeds do differently; all others begin from fixed weights."""
BY_ITSELF = {"proposal network", "first stage", "proposals at test", "first stage at test"}
"""Steps in which only the first stage has a part, or none."""
OF_LATER_STAGES = {
    "heads.stages", "heads.classifiers", "heads.trunk_gradient", "heads.later_ground_truth", "heads.moved_by",
    "heads.borrowed_gradient", "inference.score_rule",
}  # fmt: skip
"""Controls of how the stages are put together: nothing about what the first one does by itself."""
BEFORE_PROPOSALS = {"proposal network", "proposals at test"}
AFTER_PROPOSALS = {"rpn.train_nms_iou"}
"""Controls of what becomes of the proposals of training, when the network's own losses are done."""
IN_FLOAT32 = {"training pictures", "test picture", "proposals at test", "first stage at test", "all stages at test"}
"""Steps whose results are handed over in float32, where two frameworks may round to either neighbour."""


def read_witness(path: Path) -> list[dict[str, Any]]:
    """Read the quantities of a ``witness.json``; raises InputError if it is none."""
    return [one.model_dump() for one in validated(WitnessFile, read_json(path), path).quantities]


def tolerance(step: str) -> float:
    """Relative difference that two frameworks, or a framework and a plain computation, may have in a step."""
    return 1e-5 if step in IN_FLOAT32 else 1e-8


def explained(step: str, here: Readings, there: Readings) -> bool:
    """Whether a control explains that two runs differ in a step.

    A control that differs is declared as the variant's treatment, or a violation by itself. So what differs without a
    control behind it was declared by nobody.
    """
    for name in here.keys() & there.keys():
        alone = (step in BY_ITSELF and name in OF_LATER_STAGES) or (
            step in BEFORE_PROPOSALS and name in AFTER_PROPOSALS
        )
        if alone or not name.startswith(STEPS[step].follows_from):
            continue
        values = [readings[name]["value"] for readings in (here, there)]
        if step in BY_ITSELF and name.startswith("heads."):  # stage by stage, where stages differ
            values = [value[0] if isinstance(value, list) and value else value for value in values]
        if not close(*values, 1e-6):
            return True
    return False


def close(one: Value, other: Value, relative: float) -> bool:
    """Whether two values are equal: texts and truths exactly, numbers within a share of the greater or of the list's.

    A relative difference of 0 asks for the same bits.
    """
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return False
        # A projection may be near zero where the norm beside it is not.
        numbers = [abs(value) for value in (*one, *other) if _is_number(value)]
        size = max(numbers, default=0.0)
        return all(_near(a, b, relative, size) for a, b in zip(one, other, strict=True))
    return _near(one, other, relative, 0.0)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _near(one: Value, other: Value, relative: float, size: float) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return close(one, other, relative)
    if _is_number(one) and _is_number(other):
        return one == other or math.isclose(one, other, rel_tol=relative, abs_tol=relative * size)
    return type(one) is type(other) and one == other


def differences(here: Quantities, there: Quantities, relative: float | None) -> Iterator[tuple[str, str, Value, Value]]:
    """Yield step, name and both values of what differs between two runs; None stands for a quantity that one lacks.

    Parameters
    ----------
    relative : float or None
        0 within a framework; None: what two frameworks may differ by.
    """
    values = [{(entry["step"], entry["name"]): entry["value"] for entry in run} for run in (here, there)]
    for step, name in dict.fromkeys([*values[0], *values[1]]):
        ours, theirs = (run.get((step, name)) for run in values)
        if not close(ours, theirs, tolerance(step) if relative is None else relative):
            yield step, name, ours, theirs


def witness_findings(
    study: Study,
    pairs: Iterable[tuple[Check, PlannedRun, PlannedRun]],
    readings: Mapping[str, Readings],
    witnesses: Mapping[str, Quantities],
    found: Sequence[Finding],
) -> Iterator[Finding]:
    """Compare what the runs of a study did: with plain computations, and with each other.

    One difference is followed by others: of every step and pair of runs only the first is a finding.

    Parameters
    ----------
    pairs : iterable of (check, run, run that it is compared with)
        Of the audit.
    readings : mapping of str to dict
        Controls by run id.
    found : sequence of Finding
        What the controls have said already; it is not said again.
    """
    said = {(finding.run, finding.control) for finding in found}
    for planned in study.runs:
        run_id = planned.run.id
        if run_id not in witnesses:
            reason = "the run has no witness.json: inspect it first"
            yield Finding("violation", "readings", "", run_id, reason=reason)
            continue
        differing = (
            (quantity["step"], quantity["name"], quantity["value"], quantity["wanted"])
            for quantity in witnesses[run_id]
            if quantity.get("wanted") is not None
            and not close(quantity["value"], quantity["wanted"], tolerance(quantity["step"]))
            and not any(run == run_id and name.startswith(STEPS[quantity["step"]].follows_from) for run, name in said)
        )
        reason = "a plain computation from the protocol, the backbone and the variant's card gives another value"
        yield from _first_of_each_step(differing, run_id, PROTOCOL, reason)
    for check, planned, reference in pairs:
        ids = planned.run.id, reference.run.id
        if all(run_id in witnesses for run_id in ids):
            here, there = (readings.get(run_id, {}) for run_id in ids)
            differing = _between(check, planned, *(witnesses[run_id] for run_id in ids))
            undeclared = (one for one in differing if not explained(one[0], here, there))
            yield from _first_of_each_step(undeclared, *ids, REASONS[check])


REASONS: dict[Check, str] = {
    "treatment": "differs from the baseline, and no control that the variant's card declares explains it",
    "seeds": "differs between seeds of the same variant, though both begin from the same fixed weights",
    "frameworks": "differs between frameworks, and no control explains it",
}
"""Why a difference between two runs is a violation, by what is compared."""
Difference = tuple[str, str, Value, Value]


def _between(check: Check, planned: PlannedRun, here: Quantities, there: Quantities) -> Iterator[Difference]:
    """What should not differ between two runs, and does."""
    across = check == "frameworks"
    if across and planned.run.protocol.rules != "aligned":
        return
    for step, name, ours, theirs in differences(here, there, None if across else 0.0):
        absent = ours is None or theirs is None
        skipped = {"frameworks": OF_ONE_FRAMEWORK, "seeds": OF_THE_SEED}.get(check, set())
        # A variant has stages, and a mask branch, that the baseline does not have.
        if step not in skipped and not (absent and (check == "treatment" or step in OF_THE_SEED)):
            yield step, name, ours, theirs


def _first_of_each_step(differing: Iterable[Difference], run_id: str, other: str, reason: str) -> Iterator[Finding]:
    steps: dict[str, list[Difference]] = {}
    for one in differing:
        steps.setdefault(one[0], []).append(one)
    for step, (first, *others) in steps.items():
        more = f"; so do {len(others)} more of this step" if others else ""
        name, places = f"{step}: {first[1]}", (RunFolder.witness, RunFolder.witness if other != PROTOCOL else "")
        yield Finding("violation", "witness", name, run_id, other, first[2], first[3], *places, reason + more)
