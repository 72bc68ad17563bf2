"""What sources print of sizes, masks, cost and recall stands beside what the runs have; the table of masks."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from made_results import AP_NAMES, on_coco, variant_of_tiny, write_results
from small_studies import changed_study

from cascadebench.diagnostics.recall import RECALL
from cascadebench.metrics.coco.parquet import write_parquet
from cascadebench.metrics.coco.rules import AREAS, IOUS
from cascadebench.report.data.collect import collect
from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.page import render
from cascadebench.report.parts.cells import Cell, Table
from cascadebench.report.parts.printed_rows import published_table
from cascadebench.report.sections.methods.cost import cost_table
from cascadebench.report.sections.results.accuracy import headline_table, mask_table
from cascadebench.report.sections.results.diagnostics import PARTS
from cascadebench.study_loading import load_study

SCORES = ["AP", *AP_NAMES, "APs", "APm", "APl", "AR100"]
VARIANTS = [
    {"variant": "faster_rcnn", "label": "Baseline", "options": {"regression": "class_specific"}},
    {"variant": "cascade_rcnn", "label": "Cascade"},
    {"variant": "cascade_mask_rcnn", "label": "Masks", "options": {"mask_on": "every"}},
]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> StudyResults:
    """Three detectors as if they were of COCO, with masks and recall."""
    folder = tmp_path_factory.mktemp("on_coco")
    study = on_coco(folder, variants=VARIANTS, baseline="Baseline", frameworks=["mmdet"])
    root = write_results(folder / "results", study)
    path = root / "studies" / study.name / "ap_masks.csv"
    masked = [one.run for one in study.runs if one.run.variant.masks]
    scores = dict.fromkeys(SCORES, 0.3)
    pd.DataFrame([{"run": run.id, "test_stage": run.variant.headline} | scores for run in masked]).to_csv(path)
    for planned in study.runs:
        rows = [(stage, area, limit, iou, 10 * stage + 40, 100) for stage in range(planned.run.variant.stages + 1)
                for area in AREAS for limit in (100, 300, 1000) for iou in IOUS]  # fmt: skip
        write_parquet(
            root / "runs" / planned.run.id / "recall.parquet", pd.DataFrame(rows, columns=RECALL.names), RECALL
        )
    return collect(study, root)


def cells(table: Table, label: str, row: int = 0) -> dict[str, Cell]:
    """Cells of a row by the title of their column, with what stands over it for masks."""
    found = [one for group in table.groups for one in group.rows if one.head.text == label][row]
    titles = [column.group.partition(":")[0] * column.group.startswith("masks") + column.title + column.subscript
              for column in table.columns[1:]]  # fmt: skip
    return dict(zip(titles, found.cells, strict=True))


def texts(cell: Cell) -> list[str]:
    """Text of a cell and of the lines under it."""
    return [cell.text, *(line.text for line in cell.notes)]


def test_sizes_stand_beside_the_closest_row_that_prints_them(results):
    table = published_table(results)
    zoo, paper = cells(table, "Cascade"), cells(table, "Cascade", 1)
    assert texts(zoo["APS"])[1:] == []
    assert paper["APS"].notes[0].text == "22.5 printed", "Table 7, ResNet-50 under the schedule 1x"
    assert paper["APM"].notes[0].text == "43.6 printed"
    assert texts(paper["APL"]) == ["–", "55.3 printed"], "no large object here, and no difference"


def test_masks_stand_beside_printed_masks(results):
    masks = cells(published_table(results), "Masks")
    assert texts(masks["masksAP"]) == ["30.0", "35.9 printed", "−5.9"]
    assert texts(cells(published_table(results), "Cascade")["masksAP"]) == ["–"]


def test_printed_costs_stand_under_the_measured_ones(results):
    baseline = cells(cost_table(results), "Baseline")
    assert texts(baseline["Trainable, M"]) == ["3.30", "41.53 printed"]
    assert texts(baseline["FLOPs, G"]) == ["0.62", "215.82 printed"]
    assert "0.1170 printed" in texts(baseline["Test, s/image"])
    assert [line.text for line in baseline["Printed in"].notes] == [
        "Trainable, M; FLOPs, G; Test, s/image: Table VIII, Wang et al., Decoupled R-CNN (batch size: 16 here, 8 in "
        "the source; learning rate: 0.02 here, 0.01 in the source; warm-up iterations: 1000 here, 500 in the source "
        "(MMDetection, schedule_1x.py); speed on one TITAN X; parameters: those that learn)"
    ]
    assert not any("printed" in text for text in texts(baseline["Parameters, M"]))
    cascade = cells(cost_table(results), "Cascade")
    assert "0.0621 printed" in texts(cascade["Test, s/image"]), "the zoo's 16.1 images in a second"
    assert "4\u202f400 printed" in texts(cascade["Peak memory, MB"])
    assert "no measure of these runs" in cost_table(results).caption


def test_costs_of_data_that_no_source_has_have_no_such_column(tmp_path: Path):
    study = variant_of_tiny(tmp_path)
    table = cost_table(collect(study, write_results(tmp_path / "results", study)))
    assert [column.title for column in table.columns][-1] == "Trained on"
    assert "printed" not in table.caption.lower()


def test_printed_recall_stands_under_the_measured_one(results):
    _, table = next(part for part in PARTS if part.file == "recall").build(results)
    group = next(group for group in table.groups if group.title.endswith("Cascade"))
    before, first, *_ = group.rows
    assert [texts(cell) for cell in before.cells[:3]] == [["40.0", "46.8 printed"], ["40.0"], ["40.0", "58.7 printed"]]
    assert [texts(cell) for cell in first.cells[2:4]] == [["50.0", "70.7 printed"], ["50.0", "55.2 printed"]]
    assert first.head.notes[0].text.startswith("printed in: Table 8, Cai and Vasconcelos, Cascade R-CNN (framework: ")
    assert dataclasses.asdict(first.cells[2].notes[0])["value"] == 70.7


@pytest.fixture
def masked_study(tmp_path):
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


def test_masks_stand_in_a_table_of_their_own(masked_study, tmp_path):
    write_tables(masked_study, tmp_path)
    results = collect(masked_study, tmp_path)
    (group,) = mask_table(results).groups
    (row,) = group.rows
    assert row.head.text == "Masks"
    assert [cell.text for cell in row.cells] == ["30.0"] * len(SCORES)
    (boxes,) = headline_table(results).groups
    assert [cell.text for row in boxes.rows for cell in row.cells] == ["50.0"] * 2 * len(SCORES)
    assert "<h3>Masks</h3>" in render(results)


def test_missing_masks_are_said(masked_study, tmp_path):
    results = collect(masked_study, tmp_path)
    assert "ap_masks.csv is missing." in results.missing
    assert mask_table(results).empty
    assert "No results yet: ap_masks.csv is missing or empty." in render(results)


def test_a_study_of_boxes_has_no_word_of_masks(tmp_path):
    results = collect(load_study("coco_1x"), tmp_path)
    assert mask_table(results).empty
    assert not any("ap_masks" in sentence for sentence in results.missing)
    assert "<h3>Masks</h3>" not in render(results)
