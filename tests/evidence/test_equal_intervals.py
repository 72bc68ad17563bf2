"""A number that stands in *Gaps* and in *Claims* has one interval, in the tables to the last digit."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import pytest
from made_up_results import misses, study_of, write_clean_audit, write_run, write_truth
from parsed_page import Page, report_on

from cascadebench.core.configuration import PROJECT
from cascadebench.evidence.claims import find_claims
from cascadebench.evidence.hypotheses import agreement_id
from cascadebench.evidence.quantities import is_of, place_of
from cascadebench.evidence.verdict_files import write_verdicts
from cascadebench.report.data.study_results import framework_title
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study
from cascadebench.tables.aggregate import aggregate
from cascadebench.tables.study_intervals import write_intervals
from cascadebench.uncertainty.curves import IOU_RANGES, QUANTITIES
from cascadebench.uncertainty.gaps import stage_label
from cascadebench.uncertainty.resampled_study import ResampledStudy

CLAIMS = [
    "cascade-loses-low-iou", "fscascade-narrows-gap", "fscascade-closes-gap", "fscascade-beats-cascade-low-iou",
    "fscascade-beats-cascade-high-iou", "last-stage-loses-ap50", "last-stage-gains-ap90", "first-stage-beats-baseline",
    "fscascade-needs-no-ensemble", "fscascade-evens-scores", "ensemble-beats-last-stage", "large-objects-gain-more",
]  # fmt: skip


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


def test_the_difference_of_two_frameworks_has_the_same_interval_in_both_tables(study_and_results):
    study, folder = study_and_results
    intervals, verdicts = table(folder, "intervals"), table(folder, "verdicts").set_index("claim")
    for label, run in {one.label: one.run for one in study.runs}.items():
        verdict, seeds = verdicts.loc[agreement_id(run.variant)], 1 if run.variant.name == "faster_rcnn" else 2
        words = {"label": label, "gap": "mmdet - detectron2", "quantity": "0.50-0.95"}
        (gap,) = intervals[(intervals[list(words)] == pd.Series(words)).all(axis=1)].to_dict("records")
        for name in ("value", "low", "high", "seeds"):
            assert verdict[name] == gap[name], (label, name)
        assert (verdict["seeds"], verdict["framework"]) == (seeds, "mmdet - detectron2")


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


Counts = dict[tuple[str, str], float]
"""How often a quantity counts the test stage of a detector, by the detector's label and the stage's."""


def counts_of_claims(study: Study) -> Iterator[tuple[str, str, Counts]]:
    """Every claim that is about AP over one range of IoU: its id, the quantity in ``intervals.csv``, what it counts."""
    for claim in find_claims(study.file.claims, "test"):
        names = [name for name, ends in QUANTITIES.items() if {ends} == {term.ends for term in claim.terms}]
        if claim.divided_by or not names or any(term.metric != "AP" or term.area != "all" for term in claim.terms):
            continue
        counts: Counts = {}
        for term in claim.terms:
            label, run = next((one.label, one.run) for one in study.runs if is_of(term, one.run))
            place = label, place_of(term, run)
            counts[place] = counts.get(place, 0) + term.coefficient
        yield claim.id, names[-1], counts


def counts_of_gap(study: Study, label: str, gap: str) -> Counts:
    """What a gap of a detector counts, from its name; nothing for one between frameworks."""
    if between := re.fullmatch(r"\((.+)\) - \(\1 of (.+)\)", gap):
        return _minus(counts_of_gap(study, label, between[1]), counts_of_gap(study, between[2], between[1]))
    if between := re.fullmatch(r"headline - headline of (.+)", gap):
        return _minus(_count(study, label, "headline"), _count(study, between[1], "headline"))
    first, second = gap.split(" - ")
    if first in study.file.frameworks:
        return {}
    other = (study.file.baseline, "headline") if second == "baseline" else (label, second)
    return _minus(_count(study, label, first), _count(study, *other))


def _count(study: Study, label: str, words: str) -> Counts:
    variant = next(one.run.variant for one in study.runs if one.label == label)
    stage = re.fullmatch(r"stage (\d+)", words)
    words = stage_label(int(stage[1]), variant.classifiers) if stage else words
    return {(label, variant.headline if words == "headline" else words): 1}


def _minus(first: Counts, second: Counts) -> Counts:
    counts = {place: first.get(place, 0) - second.get(place, 0) for place in first | second}
    return {place: count for place, count in counts.items() if count}


def equal_intervals(study: Study, intervals: pd.DataFrame, verdicts: pd.DataFrame) -> set[tuple[str, str]]:
    """Compare value and interval of every gap that is in both tables, to the last digit; returns claims and gaps."""
    compared = set()
    rows = intervals[intervals["gap"].notna()].drop_duplicates(["label", "framework", "backbone", "gap"])
    known = [(row, counts_of_gap(study, row.label, row.gap)) for row in rows.itertuples()]
    for claim, quantity, counts in counts_of_claims(study):
        for row in (row for row, of_gap in known if of_gap == counts):
            words = ["label", "framework", "backbone", "gap"]
            chosen = intervals[(intervals[words] == [getattr(row, word) for word in words]).all(axis=1)]
            gap = chosen[chosen["quantity"] == quantity].iloc[0]
            ours = verdicts["framework"].eq(row.framework) & verdicts["backbone"].eq(row.backbone)
            (verdict,) = verdicts[ours & verdicts["claim"].eq(claim)].to_dict("records")
            for name in ("value", "low", "high", "seeds"):
                assert verdict[name] == gap[name], (claim, row.gap, name)
            compared.add((claim, row.gap))
    return compared


def intervals_equal_as_printed(study: Study, page: Page) -> int:
    """Compare the intervals of every gap that a page has in *Gaps* and in *Claims*, as printed; returns their number.

    *Gaps* prints one decimal and *Claims* two, so that the same interval differs by no more than half of both.
    """
    claims, compared = _printed_claims(study, page), 0
    for framework, label, gap, ends in _printed_gaps(study, page):
        for claim, quantity, counts in counts_of_claims(study):
            if quantity in ends and counts_of_gap(study, label, gap) == counts:
                for ours, theirs in zip(claims[claim, framework], ends[quantity], strict=True):
                    assert abs(ours - theirs) <= 0.055 + 1e-9, (claim, framework, gap, ours, theirs)
                compared += 1
    return compared


def _printed_claims(study: Study, page: Page) -> dict[tuple[str, str], list[float]]:
    """Ends of the unadjusted intervals by claim and title of the framework."""
    words = {claim.words: claim.id for claim in find_claims(study.file.claims, "test")}
    ends, claim = {}, ""
    for row in (row for name, rows in page.tables.items() if name.startswith("claims-") for row in rows):
        if len(row) == 1:
            claim = words[row[0].split("|")[0]]
        elif row[3].startswith("["):
            ends[claim, row[0].split("|")[0]] = [_number(end) for end in row[3].strip("[]").split(", ")]
    return ends


def _printed_gaps(study: Study, page: Page) -> Iterator[tuple[str, str, str, dict[str, list[float]]]]:
    """Title of the framework, label, name in ``intervals.csv`` and intervals by range of every gap with intervals."""
    titles = {framework_title(name) for name in study.file.frameworks}
    framework, other = "", ""
    for row in page.tables["gap-ranges"]:
        if len(row) == 1:
            framework, _, other = row[0].partition(": gaps of one cascade minus the same gaps of ")
            assert framework in titles
        elif framework:
            name, label = row[0].replace(" − ", " - ").split("|")
            if other:
                name, label = f"({name}) - ({name} of {other})", label.removesuffix(f" - {other}")
            cells = zip(IOU_RANGES, row[1:5], strict=True)
            lines = {quantity: cell.split("|")[1] for quantity, cell in cells if "|" in cell}
            ends = {key: [_number(end) for end in line.split(" to ")] for key, line in lines.items()}
            yield framework, label, name, ends


def _number(text: str) -> float:
    return float(text.replace("−", "-").replace("±", ""))
