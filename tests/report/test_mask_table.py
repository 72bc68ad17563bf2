"""The report's table of masks: there for detectors that predict them, in studies that have such a detector."""

import pandas as pd
import pytest
from small_studies import changed_study

from cascadebench.report.data.collect import collect
from cascadebench.report.page import render
from cascadebench.report.sections.results.accuracy import headline_table, mask_table
from cascadebench.study_loading import load_study

SCORES = ["AP", *(f"AP{percent}" for percent in range(50, 100, 5)), "APs", "APm", "APl", "AR100"]


@pytest.fixture
def study(tmp_path):
    """Faster R-CNN and Mask R-CNN in one framework, two seeds."""
    variants = [
        {"variant": "faster_rcnn", "label": "Boxes"},
        {"variant": "cascade_mask_rcnn", "label": "Masks", "options": {"stages": 1}},
    ]
    about = {"frameworks": ["mmdet"], "baseline": "Boxes", "seeds": [0, 1], "proposal_swaps": []}
    return load_study(changed_study(tmp_path, variants=variants, **about))


def write_tables(study, results):
    """Box AP 0.5 everywhere; mask AP 0.25 and 0.35 for the two seeds."""
    folder = results / "studies" / study.name
    folder.mkdir(parents=True)
    rows = [{"run": one.run.id, "test_stage": "(1,1)", "headline": "True"} for one in study.runs]
    pd.DataFrame([row | dict.fromkeys(SCORES, 0.5) for row in rows]).to_csv(folder / "ap.csv", index=False)
    masked = [
        {"run": one.run.id, "test_stage": "(1,1)"} | dict.fromkeys(SCORES, 0.25 + 0.1 * one.run.seed)
        for one in study.runs
        if one.run.variant.masks
    ]
    pd.DataFrame(masked).to_csv(folder / "ap_masks.csv", index=False)


def test_masks_stand_in_a_table_of_their_own(study, tmp_path):
    write_tables(study, tmp_path)
    results = collect(study, tmp_path)
    (group,) = mask_table(results).groups
    (row,) = group.rows
    assert row.head.text == "Masks"
    assert [cell.text for cell in row.cells] == ["30.0"] * len(SCORES)
    (boxes,) = headline_table(results).groups
    assert [cell.text for row in boxes.rows for cell in row.cells] == ["50.0"] * 2 * len(SCORES)
    assert "<h3>Masks</h3>" in render(results)


def test_missing_masks_are_said(study, tmp_path):
    results = collect(study, tmp_path)
    assert "ap_masks.csv is missing." in results.missing
    assert mask_table(results).empty
    assert "No results yet: ap_masks.csv is missing or empty." in render(results)


def test_a_study_of_boxes_has_no_word_of_masks(tmp_path):
    results = collect(load_study("coco_1x"), tmp_path)
    assert mask_table(results).empty
    assert not any("ap_masks" in sentence for sentence in results.missing)
    assert "<h3>Masks</h3>" not in render(results)
