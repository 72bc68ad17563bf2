"""What a study registered, when, and what it registered and no longer asks."""

from typing import Any

from cascadebench.evidence.registration.standing import EXPLORATORY
from cascadebench.report.data.study_results import StudyResults
from cascadebench.results.registered import said


def registration_values(results: StudyResults) -> dict[str, Any]:
    """A line for every registration, the questions that were dropped since, and how many verdicts are exploratory."""
    rows = results.tables["verdicts"].to_dict("records") if "verdicts" in results.tables else []
    asked = {row["question"] for row in rows}
    ever = dict.fromkeys(name for one in results.registrations for name in one.digests)
    return {
        "registrations": [f"{said(one)}: {len(one.questions)} questions" for one in results.registrations],
        "dropped": [name for name in ever if name not in asked],
        "exploratory": sum(row["registered"] == EXPLORATORY for row in rows),
    }
