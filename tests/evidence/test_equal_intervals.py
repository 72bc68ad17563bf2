"""A number that stands in *Gaps* and in *Claims* has one interval, in the tables to the last digit."""

from dataclasses import replace

import pandas as pd
import pytest
from gaps_in_claims import equal_intervals, intervals_equal_as_printed
from made_up_results import misses, study_of, write_clean_audit, write_run, write_truth
from parsed_page import Page, report_on

from cascadebench.core.configuration import PROJECT
from cascadebench.evidence.verdict_files import write_verdicts
from cascadebench.study_loading import load_study
from cascadebench.tables.aggregate import aggregate
from cascadebench.tables.study_intervals import write_intervals
from cascadebench.uncertainty.resampled_study import ResampledStudy

CLAIMS = [
    "cascade-loses-low-iou", "fscascade-narrows-gap", "fscascade-closes-gap", "fscascade-beats-cascade-low-iou",
    "fscascade-beats-cascade-high-iou", "last-stage-loses-ap50", "last-stage-gains-ap90", "first-stage-beats-baseline",
    "fscascade-needs-no-ensemble", "fscascade-balances-scores", "ensemble-beats-last-stage", "large-objects-gain-more",
]  # fmt: skip
ON_THE_PAGE = {"cascade-loses-low-iou", "fscascade-narrows-gap"}


@pytest.fixture(scope="module")
def study_and_results(tmp_path_factory):
    """Three detectors in two frameworks with two seeds; in Detectron2 the baseline lacks the second."""
    folder = tmp_path_factory.mktemp("gaps")
    variants = [{"variant": name} for name in ("faster_rcnn", "cascade_rcnn", "fscascade")]
    study = study_of(folder, variants=variants, baseline="Faster R-CNN FPN", claims=CLAIMS, seeds=[1, 0])
    truth = write_truth(folder, study)
    for number, planned in enumerate(study.runs):
        if (planned.label, planned.run.framework, planned.run.seed) != ("Faster R-CNN FPN", "detectron2", 1):
            write_run(folder, planned.run, truth, misses({"(3,3)": 0.5 + 0.04 * number, "(2,2)": 0.8}))
    write_clean_audit(folder, study)
    resampled = ResampledStudy(study, folder, 199, 4)
    write_intervals(resampled)
    write_verdicts(resampled)
    return study, folder


def table(folder, name):
    return pd.read_csv(folder / "studies" / "made_up" / f"{name}.csv")


def test_a_gap_has_the_same_interval_in_both_tables(study_and_results):
    study, folder = study_and_results
    intervals, verdicts = table(folder, "intervals"), table(folder, "verdicts")
    compared = equal_intervals(study, intervals, verdicts)
    assert {
        ("cascade-loses-low-iou", "stage 3 - stage 2"),
        ("fscascade-narrows-gap", "(stage 3 - stage 2) - (stage 3 - stage 2 of Cascade R-CNN)"),
        ("fscascade-beats-cascade-low-iou", "(stage 3 - baseline) - (stage 3 - baseline of Cascade R-CNN)"),
        ("last-stage-loses-ap50", "stage 3 - stage 2"),
        ("last-stage-gains-ap90", "stage 3 - stage 2"),
        ("fscascade-needs-no-ensemble", "(3,1-3) last RoIs - stage 3"),
    } <= compared
    # It would see two rules: another interval of one gap is told.
    intervals.loc[intervals["gap"] == "stage 3 - stage 2", "low"] += 1e-15
    with pytest.raises(AssertionError, match="stage 3 - stage 2"):
        equal_intervals(study, intervals, verdicts)


def test_a_gap_has_the_same_interval_in_both_sections_of_the_page(study_and_results, tmp_path):
    study, folder = study_and_results
    aggregate(study, folder)
    assert intervals_equal_as_printed(study, report_on(study, folder, tmp_path)) >= 6


def test_the_committed_example_has_one_interval_per_gap():
    """As a real run of the embedded study made it."""
    page = Page((PROJECT / "reports" / "example.html").read_text(encoding="utf-8"))
    assert intervals_equal_as_printed(load_study("tiny"), page) >= 8


def test_verdicts_alone_are_those_beside_the_intervals(study_and_results, tmp_path):
    """Nothing hangs on what was resampled before."""
    study, folder = study_and_results
    before = (folder / "studies" / "made_up" / "verdicts.csv").read_bytes()
    write_verdicts(ResampledStudy(study, folder, 199, 4))
    assert (folder / "studies" / "made_up" / "verdicts.csv").read_bytes() == before
    backwards = replace(study, runs=tuple(reversed(study.runs)))
    write_intervals(ResampledStudy(backwards, folder, 199, 4))
    assert equal_intervals(study, table(folder, "intervals"), table(folder, "verdicts"))
