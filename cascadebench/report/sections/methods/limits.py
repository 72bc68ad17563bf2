"""Limits: what these numbers do not say."""

from typing import Any

from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.caveats import interval_warning
from cascadebench.report.parts.section import Section, has_runs


def build(results: StudyResults) -> dict[str, Any]:
    """What the number of seeds lets one say; the rest is the same for every study."""
    return {"warning": interval_warning(results)}


SECTION = Section("limits", "Limits", build, needs=has_runs)
