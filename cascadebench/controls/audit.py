"""The audit: every run's controls against the protocol, the baseline, its other seeds and the other frameworks."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cascadebench.controls.control_definition import ControlDefinition
from cascadebench.controls.definitions import CONTROLS
from cascadebench.controls.findings import PROTOCOL, Audit, Check, Finding, FindingKind, Readings
from cascadebench.controls.witness import Quantities, witness_findings
from cascadebench.study.run import LEARNS_FROM_PART
from cascadebench.study.study import Detector, PlannedRun, Study
from cascadebench.study.study_file import AcceptedViolation

EXECUTION = "execution"
"""Stands for the other run where a value does not go with how the study divides a step."""
LEARNS_FROM_BATCH = {"backbone.batch_norm": "trained", "heads.regression_branch": "residual_convolutions"}
"""Controls and their values with which batch norm learns from the images, or RoIs, that one pass sees."""
UNCHECKED = "unchecked"
"""What a variant's card says of a value that only has to be the same in every framework."""
RELATIVE_TOLERANCE = 1e-6


def same_value(one: Any, other: Any) -> bool:
    """Whether two values are equal: numbers but for a relative 1e-6, lists element by element.

    2 equals 2.0; True equals neither 1 nor 1.0.
    """
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_value, one, other))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    if numbers:
        return math.isclose(one, other, rel_tol=RELATIVE_TOLERANCE)
    return type(one) is type(other) and one == other


def audit(
    study: Study, controls: Mapping[str, Sequence[dict[str, Any]]], witnesses: Mapping[str, Quantities] | None = None
) -> Audit:
    """Compare what was read back from the runs of a study.

    Parameters
    ----------
    controls : mapping of str to sequence of dict
        By run id, the entries ``name``, ``value``, ``read_from``. A run that is not there is a violation.
    witnesses : mapping of str to sequence of dict, or None
        By run id, the quantities of its witness; a run that is not there is a violation. None: controls alone.

    Returns
    -------
    Audit
        A value that is not the protocol's is one finding, and is not compared with other runs on top of that.
    """
    readings = {run_id: {entry["name"]: entry for entry in entries} for run_id, entries in controls.items()}
    findings = [finding for planned in study.runs for finding in _incomplete(planned, controls.get(planned.run.id))]
    for planned in study.runs:
        findings += _against_protocol(planned, readings.get(planned.run.id, {}))
        findings += _divided(study, planned, readings.get(planned.run.id, {}))
    wrong = {(finding.run, finding.control) for finding in findings if finding.kind == "violation"}
    pairs = list(_pairs(study))
    for check, planned, reference in pairs:
        here = {name: entry for name, entry in readings.get(planned.run.id, {}).items()
                if not {(planned.run.id, name), (reference.run.id, name)} & wrong}  # fmt: skip
        findings += _between_runs(check, planned, reference, here, readings.get(reference.run.id, {}))
    if witnesses is not None:
        findings += witness_findings(study, pairs, readings, witnesses, findings)
    findings = _accept(study, findings)
    quantities = max(map(len, (witnesses or {}).values()), default=0)
    return Audit(study.name, len(study.runs), len(CONTROLS), tuple(findings), quantities)


def _incomplete(planned: PlannedRun, entries: Sequence[dict[str, Any]] | None) -> Iterator[Finding]:
    """Controls that are missing, unknown or listed twice."""
    run_id = planned.run.id
    if entries is None:
        yield Finding("violation", "readings", "", run_id, reason="the run has no controls.json: inspect it first")
        return
    names = Counter(entry["name"] for entry in entries)
    problems = {
        "the control was not read": [name for name in CONTROLS if name not in names],
        "no definition has this control": [name for name in names if name not in CONTROLS],
        "the control is listed more than once": [name for name, count in names.items() if count > 1],
    }
    by_name = {entry["name"]: entry for entry in entries}
    for reason, wrong in problems.items():
        for name in wrong:
            entry = by_name.get(name, {})
            place = str(entry.get("read_from", ""))
            yield Finding("violation", "readings", name, run_id, "", entry.get("value"), None, place, "", reason)


def _against_protocol(planned: PlannedRun, readings: Readings) -> Iterator[Finding]:
    """Values that are not what the protocol, backbone or variant says."""
    run = planned.run
    aligned = run.protocol.rules == "aligned"
    for name, entry in readings.items():
        definition = CONTROLS.get(name)
        if definition is None or definition.kind != "protocol" or definition.expected is None:
            continue
        expected = planned.values.get(name, definition.expected(run))
        if expected != UNCHECKED and not same_value(entry["value"], expected):
            kind, reason = (
                ("violation", "the run's protocol, backbone or variant says otherwise")
                if aligned
                else ("own rule", f"the protocol keeps {run.protocol.rules}'s own rules")
            )
            place = entry["read_from"]
            yield Finding(kind, "protocol", name, run.id, PROTOCOL, entry["value"], expected, place, "", reason)


def _divided(study: Study, planned: PlannedRun, readings: Readings) -> Iterator[Finding]:
    """Values that are others in the parts that the study makes of a step."""
    processes, passes = max(study.file.execution.gpus, 1), study.file.execution.accumulation
    if processes * passes == 1:
        return
    images = planned.run.protocol.schedule.batch_size // processes // passes
    division = f"{processes} process(es) x {passes} pass(es) x {images} image(s)"
    reasons = {
        name: f"{LEARNS_FROM_PART}; gpus and accumulation may be at most 1"
        for name, value in LEARNS_FROM_BATCH.items()
        if readings.get(name, {}).get("value") == value
    }
    if not same_value(readings.get("training.batch_size", {}).get("value"), images * processes * passes):
        reasons["training.batch_size"] = "the parts do not add up to the step's batch"
    for name in [one for one in reasons if one in readings]:
        entry = readings[name]
        values = (entry["value"], division, entry["read_from"], "study.execution", reasons[name])
        yield Finding("violation", "division", name, planned.run.id, EXECUTION, *values)


def _pairs(study: Study) -> Iterator[tuple[Check, PlannedRun, PlannedRun]]:
    """Every run with the baseline's, with its own of the first seed, and with the first framework's."""
    file = study.file
    runs = {(planned.detector, planned.run.seed): planned for planned in study.runs}
    for (detector, seed), planned in runs.items():
        references: dict[Check, tuple[Detector, int]] = {
            "treatment": (replace(detector, label=file.baseline), seed),
            "seeds": (detector, file.seeds[0]),
            "frameworks": (replace(detector, framework=file.frameworks[0]), seed),
        }
        for check, key in references.items():
            if runs[key] is not planned:
                yield check, planned, runs[key]


def _between_runs(
    check: Check, planned: PlannedRun, reference: PlannedRun, ours: Readings, theirs: Readings
) -> Iterator[Finding]:
    """Values that differ between two runs and should not, or whose difference is stated."""
    for name, entry in ours.items():
        definition, other = CONTROLS.get(name), theirs.get(name)
        if definition is None or other is None or same_value(entry["value"], other["value"]):
            continue
        judgement = _judge(check, definition, planned)
        if judgement:
            kind, reason = judgement
            values = (entry["value"], other["value"], entry["read_from"], other["read_from"])
            yield Finding(kind, check, name, planned.run.id, reference.run.id, *values, reason)


def _judge(check: Check, definition: ControlDefinition, planned: PlannedRun) -> tuple[FindingKind, str] | None:
    """What a difference between two runs is and why; None if it may be."""
    if definition.kind == "record":
        return None
    if check == "seeds":
        return None if definition.per_seed else ("violation", "differs between seeds of the same variant")
    if check == "treatment":
        card = f"the card of {planned.run.variant.name} does not declare it as treatment"
        declared = definition.name in planned.treatment
        return None if declared else ("violation", f"differs from the baseline, and {card}")
    if definition.kind == "framework":
        return "framework difference", definition.reason
    return "violation", "differs between frameworks, and no reason is stated"


def _accept(study: Study, findings: Sequence[Finding]) -> list[Finding]:
    """Turn violations that the study accepts into accepted ones; add the acceptances that match none."""
    planned = {one.run.id: one for one in study.runs}
    entries = study.file.accepted_violations
    result, used = [], set()
    for finding in findings:
        matching = [number for number, entry in enumerate(entries) if _matches(entry, finding, planned)]
        used.update(matching)
        accepted = {"kind": "accepted", "reason": entries[matching[0]].reason} if matching else {}
        result.append(replace(finding, **accepted))
    if any(finding.check == "readings" and not finding.control for finding in findings):
        return result  # without all readings, what matches nothing may still have its use
    for number, entry in enumerate(entries):
        if number not in used:
            reason = f"accepted_violations[{number}] of the study matches no violation: remove it"
            result.append(Finding("violation", "acceptance", entry.control, "", reason=reason))
    return result


def _matches(entry: AcceptedViolation, finding: Finding, planned: Mapping[str, PlannedRun]) -> bool:
    """Whether an entry of the study's file accepts a violation."""
    frameworks = {planned[run].run.framework for run in (finding.run, finding.other_run) if run in planned}
    return (
        finding.kind == "violation"
        and finding.check != "division"  # the training would refuse it
        and finding.control == entry.control
        and entry.variant in (None, planned[finding.run].label)
        and (entry.framework is None or entry.framework in frameworks)
    )
