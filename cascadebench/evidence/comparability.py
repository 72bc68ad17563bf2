"""Whether a measured quantity may be held against a claim: its data, its schedule, its backbone, the audit."""

from collections.abc import Sequence

from cascadebench.controls.audit import Audit, Finding
from cascadebench.evidence.claims import SourcedClaim
from cascadebench.evidence.schedules import (
    find_schedule,
    length_difference,
    setting_differences,
    settings_not_given,
)
from cascadebench.study.run import Run

WEIGHTS_SUFFIX = "_caffe"
"""A backbone's name with this at its end is the same network from weights that were trained in Caffe."""
SHOWN = 5
"""Violations of the audit that are told one by one."""


def network(backbone: str) -> str:
    """Name of a backbone without the word for its initial weights."""
    return backbone.removesuffix(WEIGHTS_SUFFIX)


def reasons_not_comparable(claim: SourcedClaim, runs: Sequence[Run], audit: Audit | None) -> tuple[str, ...]:
    """Say why a quantity measured on these runs is not what the claim is about; nothing if it is.

    Another framework is no reason: the claims are about detectors. Nor are other settings of a schedule of the same
    length, which a study holds equal for all of its runs; :func:`other_settings` tells them.

    Parameters
    ----------
    audit : Audit or None
        Of the study; None: its controls were not audited.
    """
    asked = claim.claimed_on
    schedule = find_schedule(asked.schedule, f"claim {claim.id}")
    reasons = []
    for run in runs:
        if run.dataset.name != asked.dataset:
            reasons.append(f"data: {run.dataset.name} here, {asked.dataset} in the source")
        elif schedule.images is not None:
            reasons.append(length_difference(run.protocol, schedule))
        if asked.backbones and network(run.backbone.name) not in asked.backbones:
            reasons.append(f"backbone: {run.backbone.name} here, {' or '.join(asked.backbones)} in the source")
    found = list(dict.fromkeys(reason for reason in reasons if reason))
    return (*found, *_audited(runs, audit))


def other_settings(claim: SourcedClaim, runs: Sequence[Run]) -> tuple[str, ...]:
    """Settings of the runs' schedule that are not the source's, or whose value the source does not say.

    No reason against a verdict, as they are the same for both sides of a difference, and never hidden. Of other data
    they would say nothing: a schedule belongs to its dataset.
    """
    schedule = find_schedule(claim.claimed_on.schedule, f"claim {claim.id}")
    texts: list[str | None] = []
    for run in (run for run in runs if run.dataset.name == claim.claimed_on.dataset):
        if schedule.images is None:
            texts.append(length_difference(run.protocol, schedule))
        texts += [*setting_differences(run.protocol, schedule), settings_not_given(run.protocol, schedule)]
    return tuple(dict.fromkeys(text for text in texts if text))


def accepted_violations(runs: Sequence[Run], audit: Audit | None) -> tuple[str, ...]:
    """Violations that the study's file accepts, of these runs: no reason against a verdict, and never hidden."""
    accepted = audit.of_kind("accepted") if audit else []
    ids = {run.id for run in runs}
    texts = [f"accepted violation: {one.control}: {one.reason}" for one in accepted if _touches(one, ids)]
    return tuple(dict.fromkeys(texts))


def _audited(runs: Sequence[Run], audit: Audit | None) -> list[str]:
    if audit is None:
        return ["the controls were not audited"]
    ids = {run.id for run in runs}
    violations = [
        f"audit: {one.control} of {one.run}: {one.reason}" for one in audit.of_kind("violation") if _touches(one, ids)
    ]
    more = [f"audit: {len(violations) - SHOWN} more violations"] if len(violations) > SHOWN else []
    return violations[:SHOWN] + more


def _touches(finding: Finding, ids: set[str]) -> bool:
    """Whether a finding is about one of the runs.

    Where seeds or frameworks differ either of the two may be wrong; where a variant differs from the baseline it is the
    variant.
    """
    either = finding.check in ("seeds", "frameworks")
    return finding.run in ids or (either and finding.other_run in ids)
