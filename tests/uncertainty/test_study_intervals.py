"""Intervals of a study of two detectors in two frameworks with two seeds, whose detections are made by hand."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from detection_cases import annotations
from made_up_results import write_run, write_truth
from small_studies import two_detectors

from cascadebench.metrics.coco.ap_table import full_area, read_ap
from cascadebench.study.study import PlannedRun, Study
from cascadebench.tables.study_intervals import COLUMNS, write_intervals
from cascadebench.uncertainty.compare_files import compare_files
from cascadebench.uncertainty.curves import IOU_RANGES
from cascadebench.uncertainty.resampled_study import ResampledStudy

IMAGES, SIDE = 30, 40
SHIFTS = {"(1,1)": 8, "(2,2)": 5, "(3,3)": 1}
"""Pixels by which the boxes of a test stage miss: they overlap by 2/3, 7/9 and 39/41."""
RESAMPLES = 100


def with_seeds(study: Study, seeds: tuple[int, ...]) -> Study:
    """The study's runs, once for every seed."""
    runs = [
        PlannedRun(one.label, one.run.model_copy(update={"seed": seed}), one.treatment)
        for one in study.runs
        for seed in seeds
    ]
    return replace(study, file=study.file.model_copy(update={"seeds": seeds}), runs=tuple(runs))


@pytest.fixture(scope="module")
def truth() -> dict:
    """Thirty images with one object each."""
    corners = np.random.default_rng(0).integers(0, 50, (IMAGES, 2))
    boxes = [(n, 1, x, y, SIDE, SIDE) for n, (x, y) in enumerate(corners)]
    return annotations(boxes, IMAGES, ["disc"], file_name="-", width=200, height=200)


def write_results(folder, study, truth) -> None:
    """Detections of every run; a fifth of the objects is missed."""
    write_truth(folder, study, truth)
    for number, planned in enumerate(study.runs):
        shifts = SHIFTS if planned.run.variant.stages > 1 else {"(1,1)": 6}

        def pixels(stage, random, shifts=shifts):
            return shifts.get(stage.label, 1) if random.random() < 0.8 else 60

        write_run(folder, planned.run, truth, pixels, np.random.default_rng(number))


def intervals_of(study, results, resamples=20, seed=0) -> pd.DataFrame:
    """The intervals of the runs of a study alone."""
    write_intervals(ResampledStudy(study, results, resamples, seed))
    return pd.read_csv(results / "studies" / study.name / "intervals.csv", keep_default_na=False, na_values=[""])


@pytest.fixture(scope="module")
def study() -> Study:
    """Two seeds."""
    return with_seeds(two_detectors(), (0, 1))


@pytest.fixture(scope="module")
def results(study, truth, tmp_path_factory):
    """Its results."""
    folder = tmp_path_factory.mktemp("results")
    write_results(folder, study, truth)
    return folder


@pytest.fixture(scope="module")
def table(study, results) -> pd.DataFrame:
    """The intervals."""
    return intervals_of(study, results, RESAMPLES, 5)


def row(table, label, framework="mmdet", quantity="0.50-0.95", **chosen):
    """The one row of these words."""
    words = {"label": label, "framework": framework, "quantity": quantity} | chosen
    found = table
    for name, value in words.items():
        found = found[found[name] == value]
    assert len(found) == 1, words
    return found.iloc[0]


def test_every_test_stage_and_gap_has_its_rows(study, table):
    assert tuple(table) == COLUMNS
    cascade = table[(table["label"] == "Cascade R-CNN") & (table["framework"] == "mmdet")]
    stages = [stage.label for stage in study.runs[-1].run.variant.test_stages]
    assert list(cascade["test_stage"].dropna().unique()) == stages
    gaps = set(cascade["gap"].dropna())
    assert {"stage 3 - stage 2", "stage 3 - stage 1", "stage 3 - baseline"} < gaps
    assert "(3,1-3) last RoIs - stage 3" in gaps
    assert set(table["seeds"]) == {2}
    assert set(table["resamples"]) == {RESAMPLES}
    assert set(table["bootstrap_seed"]) == {5}
    for _, one in table[table["quantity"] == "AP50"].iterrows():
        assert one["low"] <= one["value"] <= one["high"]


def test_values_are_the_mean_of_the_seeds(study, results, table):
    runs = [one.run.id for one in study.runs if one.label == "Cascade R-CNN" and one.run.framework == "mmdet"]
    tables = [read_ap(results / "runs" / run / "ap.parquet") for run in runs]
    for stage in ("(1,1)", "(3,3)"):
        words = f"category == 'all' and test_stage == '{stage}'"
        chosen = [full_area(one).query(words).set_index("iou")["ap"] for one in tables]
        mean = sum(chosen) / 2
        assert row(table, "Cascade R-CNN", test_stage=stage)["value"] == pytest.approx(mean.mean())
        assert row(table, "Cascade R-CNN", test_stage=stage, quantity="AP75")["value"] == pytest.approx(mean[0.75])
        for name, (low, high) in IOU_RANGES.items():
            inside = mean[(mean.index > low - 1e-9) & (mean.index < high + 1e-9)].mean()
            assert row(table, "Cascade R-CNN", test_stage=stage, quantity=name)["value"] == pytest.approx(inside)


def test_a_gap_is_where_the_boxes_differ(table):
    """Stage 3 misses by 1 pixel and stage 1 by 8: above IoU 2/3 stage 1 finds nothing."""
    high = row(table, "Cascade R-CNN", gap="stage 3 - stage 1", quantity="0.70-0.80")
    assert high["low"] > 0.25
    low = row(table, "Cascade R-CNN", gap="stage 3 - stage 1", quantity="AP50")
    assert abs(low["value"]) < 0.2
    assert high["value"] == pytest.approx(
        row(table, "Cascade R-CNN", test_stage="(3,3)", quantity="0.70-0.80")["value"]
    )


def test_with_one_seed_a_gap_is_that_of_compare(truth, tmp_path):
    """Two ways to the same numbers."""
    study = two_detectors()
    write_results(tmp_path, study, truth)
    table = intervals_of(study, tmp_path, RESAMPLES, 5)
    runs = {one.label: one.run for one in study.runs if one.run.framework == "detectron2"}
    baseline, cascade = runs["Faster R-CNN FPN"], runs["Cascade R-CNN"]
    files = [tmp_path / "runs" / run.id / "detections.parquet" for run in (baseline, cascade)]
    truth_file = tmp_path / "datasets" / study.dataset.name / "val.json"
    found = compare_files(truth_file, files, ("(1,1)", "(3,3)"), RESAMPLES, 5)
    ours = row(table, "Cascade R-CNN", "detectron2", gap="stage 3 - baseline", quantity="AP75")
    theirs = next(one for one in found["per_iou"] if one["iou"] == 0.75)
    assert [ours[name] for name in ("value", "low", "high")] == [theirs[name] for name in ("delta", "low", "high")]
    assert np.isnan(ours["seed_error"])


def test_the_same_detector_in_two_frameworks_is_compared_seed_by_seed(study, truth, results, table, tmp_path):
    """Over two seeds the mean of the differences; with one seed what ``compare`` says of the two files."""
    name = "mmdet - detectron2"
    assert set(table[table["gap"] == name]["framework"]) == {"mmdet"}
    for label in ("Faster R-CNN FPN", "Cascade R-CNN"):
        headline = next(one.run.variant.headline for one in study.runs if one.label == label)
        both = [row(table, label, one, test_stage=headline)["value"] for one in study.file.frameworks]
        assert row(table, label, gap=name)["value"] == pytest.approx(both[0] - both[1])
    # Of the second framework one seed is gone: the other is compared alone.
    runs = [one for one in study.runs if (one.run.framework, one.run.seed) != ("detectron2", 1)]
    shutil.copytree(results, tmp_path / "results")
    alone = intervals_of(replace(study, runs=tuple(runs)), tmp_path / "results", RESAMPLES, 5)
    found = row(alone, "Cascade R-CNN", gap=name, quantity="AP75")
    assert found["seeds"] == 1
    pair = {one.run.framework: one.run for one in runs if one.label == "Cascade R-CNN" and one.run.seed == 0}
    files = [results / "runs" / pair[one].id / "detections.parquet" for one in ("detectron2", "mmdet")]
    truth_file = results / "datasets" / study.dataset.name / "val.json"
    compared = compare_files(truth_file, files, [pair["mmdet"].variant.headline] * 2, RESAMPLES, 5)
    theirs = next(one for one in compared["per_iou"] if one["iou"] == 0.75)
    assert [found[name] for name in ("value", "low", "high")] == [theirs[name] for name in ("delta", "low", "high")]


def without(study: Study, *lost: tuple[str, int]) -> Study:
    """The study without some seeds of some labels."""
    return replace(study, runs=tuple(one for one in study.runs if (one.label, one.run.seed) not in lost))


def test_two_cascades_are_compared_over_the_seeds_that_both_have(truth, tmp_path):
    """One has seeds 0 and 1 and the other 1 and 2: as if there were seed 1 alone."""
    study = with_seeds(two_detectors(), (0, 1, 2))
    second = []
    for one in study.runs:
        if one.label == "Cascade R-CNN":
            variant = one.run.variant.model_copy(update={"name": "second", "headline": "(3,3)"})
            run = one.run.model_copy(update={"variant": variant})
            second.append(replace(one, label="Second cascade", run=run))
    study = replace(study, runs=(*study.runs, *second))
    write_results(tmp_path, study, truth)
    table = intervals_of(without(study, ("Cascade R-CNN", 2), ("Second cascade", 0)), tmp_path)
    labels = ("Cascade R-CNN", "Second cascade")
    only = intervals_of(without(study, *((label, seed) for label in labels for seed in (0, 2))), tmp_path)
    for gap in ("stage 3 - stage 2", "stage 3 - baseline"):
        difference = row(table, "Second cascade", gap=f"({gap}) - ({gap} of Cascade R-CNN)")
        parts = [row(only, label, gap=gap)["value"] for label in ("Second cascade", "Cascade R-CNN")]
        assert difference["value"] == pytest.approx(parts[0] - parts[1])
        assert difference["seeds"] == 1
    # Their headline test stages have other labels.
    difference = row(table, "Second cascade", gap="headline - headline of Cascade R-CNN")
    headlines = {one.label: one.run.variant.headline for one in study.runs}
    parts = [row(only, label, test_stage=headlines[label])["value"] for label in ("Second cascade", "Cascade R-CNN")]
    assert headlines["Cascade R-CNN"] != "(3,3)"
    assert difference["value"] == pytest.approx(parts[0] - parts[1])
    assert difference["seeds"] == 1
    assert not table["gap"].str.contains("headline of Faster", na=False).any()


def test_a_seed_without_the_baseline_is_in_the_gaps_that_need_none(study, results, tmp_path):
    shutil.copytree(results, tmp_path / "results")
    table = intervals_of(without(study, ("Faster R-CNN FPN", 1)), tmp_path / "results")
    assert row(table, "Cascade R-CNN", gap="stage 3 - stage 2")["seeds"] == 2
    assert row(table, "Cascade R-CNN", gap="stage 3 - baseline")["seeds"] == 1


def test_a_crossing_has_its_share_and_an_interval_only_if_that_is_large(table):
    """Stage 3 misses by 1 pixel and stage 1 by 8; which finds more at low IoU is chance."""
    found = table[table["quantity"] == "crossing"]
    assert set(found["gap"]) == set(table["gap"].dropna())
    assert found["crossing_share"].between(0, 1).all()
    assert found.loc[found["crossing_share"] < 0.95, ["low", "high"]].isna().all(axis=None)
    assert found["empty_resamples"].eq(0).all()
    assert table.loc[table["quantity"] != "crossing", "crossing_share"].isna().all()


def test_classes_that_a_resample_lacks_are_stated(truth, table, tmp_path):
    assert table["absent_classes"].eq(0).all()
    # One object of a second class: an image is in no resample in 36 of 100.
    rare = truth | {"categories": [*truth["categories"], {"id": 2, "name": "rare"}]}
    rare["annotations"] = [truth["annotations"][0] | {"category_id": 2}, *truth["annotations"][1:]]
    study = two_detectors()
    write_results(tmp_path, study, rare)
    found = intervals_of(study, tmp_path, 200)
    assert found["absent_classes"].nunique() == 1
    assert 0.2 < found["absent_classes"].iloc[0] < 0.5


def test_the_same_seed_gives_the_same_bytes_and_missing_runs_are_left_out(study, results, table, tmp_path):
    path = results / "studies" / study.name / "intervals.csv"
    before = path.read_bytes()
    write_intervals(ResampledStudy(study, results, RESAMPLES, 5))
    assert path.read_bytes() == before
    write_intervals(ResampledStudy(study, tmp_path, RESAMPLES, 5))
    assert (tmp_path / "studies" / study.name / "intervals.csv").read_text() == ",".join(COLUMNS) + "\n"
