"""Sentences on what values over seeds and images say, and what not."""

from cascadebench.report.data.study_results import StudyResults


def range_caption(results: StudyResults) -> str:
    """What the range under a value is, where there are several seeds."""
    return " Two values with … between them are the lowest and the highest seed." if results.several_seeds else ""


def interval_warning(results: StudyResults) -> str:
    """What the number of seeds lets one say."""
    seeds = len(results.study.file.seeds)
    if not len(results.tables["intervals"]):
        return "There are no intervals: intervals.csv is missing. A difference of AP without an interval is no verdict."
    if not seeds:
        return "Intervals are over the validation images alone: nothing is known of the trainings."
    if seeds == 1:
        return (
            "Intervals are over the validation images alone: with one seed they do not say what another training with "
            "the same settings would give."
        )
    return f"Intervals are over the validation images and over {seeds} seeds."
