"""What an audit found."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

FindingKind = Literal["violation", "accepted", "framework difference", "own rule"]
Check = Literal["readings", "protocol", "division", "treatment", "seeds", "frameworks", "acceptance", "witness"]
Readings = dict[str, dict[str, Any]]
"""A run's readings by control: ``name``, ``value``, ``read_from``."""
PROTOCOL = "protocol"
"""Stands for the other run where a value is compared with what the protocol says."""


@dataclass(frozen=True)
class Finding:
    """One difference, or one reading that is not there."""

    kind: FindingKind
    """``violation``: the study must not train. ``accepted``: a violation that the study's file accepts. ``framework
    difference``: the definition of the control says why frameworks differ. ``own rule``: the protocol keeps a
    framework's own rules, and this is one."""
    check: Check
    """What was checked: ``readings`` (every control is there), ``protocol``, ``division`` (a step in the parts that the
    study's ``execution`` makes of it), ``treatment`` (against the baseline), ``seeds``, ``frameworks``, ``acceptance``
    (an accepted violation that does not occur), ``witness`` (what the run's objects did)."""
    control: str
    run: str
    """Id of the run; empty, as the control, where it is none in particular."""
    other_run: str = ""
    """Id of the run that it was compared with, ``protocol`` or ``execution``."""
    value: Any = None
    other: Any = None
    """The value that it was compared with."""
    read_from: str = ""
    other_read_from: str = ""
    """Where the other value was read, as code; `read_from` is the same of the first."""
    reason: str = ""
    """What is wrong, or why it is not."""


@dataclass(frozen=True)
class Audit:
    """What the audit of a study found, among how many runs, controls and witnessed quantities of a run."""

    study: str
    runs: int
    controls: int
    findings: tuple[Finding, ...]
    quantities: int = 0

    def of_kind(self, kind: FindingKind) -> list[Finding]:
        """Findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    @property
    def passed(self) -> bool:
        """Whether there is no violation."""
        return not self.of_kind("violation")

    @property
    def verdict(self) -> str:
        """Violations by number, what is stated by the number of its controls."""
        stated = {kind: len({f.control for f in self.of_kind(kind)}) for kind in ("framework difference", "own rule")}
        words = [
            _counted(len(self.of_kind("violation")), "violation"),
            *([_counted(len(self.of_kind("accepted")), "accepted violation")] * bool(self.of_kind("accepted"))),
            _counted(stated["framework difference"], "stated framework difference"),
            *([_counted(stated["own rule"], "own rule")] * bool(stated["own rule"])),
        ]
        witnessed = f" and up to {self.quantities} witnessed quantities" if self.quantities else ""
        return f"{'; '.join(words)} ({self.controls} controls{witnessed} in {_counted(self.runs, 'run')})"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def grouped(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Findings that are the same but for the runs, together."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(repr(replace(finding, run="", other_run="")), []).append(finding)
    return list(groups.values())
