"""The section of the diagnostics: the numbers of the files, and words where files are missing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import vl_convert
from made_diagnostics import write_diagnostics
from made_results import AP_NAMES, run_of, scores, variant_of_tiny, write_results
from parsed_page import Page, report_on
from test_example_views import write_examples

from cascadebench.core.configuration import PROJECT
from cascadebench.diagnostics.error_kinds import ERROR_KINDS, KINDS
from cascadebench.diagnostics.recall import RECALL
from cascadebench.diagnostics.stage_statistics import STAGE_STATISTICS, summarize_stages
from cascadebench.metrics.coco.parquet import read_parquet
from cascadebench.study.study import Study


def study_of(folder: Path, *variants: str) -> Study:
    """The embedded study with these variants."""
    return variant_of_tiny(folder, variants=[{"variant": name} for name in variants])


@pytest.fixture(scope="module")
def complete(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with every diagnostic and with examples; not to be changed."""
    root = write_results(tmp_path_factory.mktemp("diagnosed"), study)
    for planned in study.runs:
        cascade = run_of(study, "Cascade R-CNN", planned.run.framework).id
        others = (cascade,) if planned.label == "Faster R-CNN FPN" else ()
        write_diagnostics(root / "runs" / planned.run.id, planned.run, study.dataset.categories, others)
    write_examples(root, study)
    return root


def test_every_diagnostic_is_shown_and_equal_results_give_equal_bytes(
    page: Page, study: Study, complete: Path, tmp_path: Path
) -> None:
    assert "Not recorded in any run" not in page.text
    assert report_on(study, complete, tmp_path).html == page.html


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_draws(page: Page, scheme: str) -> None:
    theme = page.data("chart-themes")[scheme]
    # The baseline has no gap to itself; cells of (1,1) to (3,3) at AP, AP50, AP75 and AP90.
    exact = {"gaps-by-iou": ("line mark", 1), "agreement-by-iou": ("line mark", 1), "ap-by-iou": ("line mark", 2)}
    exact |= {"stage-matrix": ("rect mark", 4 * 6), "cost-accuracy": ("point", 4)}
    exact |= dict.fromkeys(("training-loss", "training-lr"), ("line mark", 2))
    least = {"quality": ("rect mark", 9), "errors": ("bar", 12)}  # cells; kinds of two detectors
    for name, specification in page.charts().items():
        svg = vl_convert.vegalite_to_svg(specification | {"config": theme, "width": 400})
        kind = name.rpartition("-")[0]
        mark, count = exact.get(kind) or least.get(kind, ("line mark", 1))
        drawn = svg.count(f'aria-roledescription="{mark}"')
        assert drawn == count if kind in exact else drawn >= count, name


def test_recall_is_drawn_as_the_file_has_it(page: Page, study: Study, complete: Path) -> None:
    run = run_of(study, "Cascade R-CNN", "mmdet")
    table = read_parquet(complete / "runs" / run.id / "recall.parquet", RECALL).astype({"area": "str"})
    table = table[(table["area"] == "all") & (table["limit"] == 1000)]
    points = next(iter(page.charts()["recall-2"]["datasets"].values()))
    names = {stage: f"after stage {stage}" if stage else "proposals" for stage in range(4)}
    expected = {(names[row.stage], row.iou): 100 * row.matched / row.total for row in table.itertuples()}
    assert {(point["label"], point["iou"]): point["value"] for point in points} == pytest.approx(expected, rel=1e-3)
    assert len(expected) == 4 * 10


def test_stage_table_has_the_numbers_of_the_file(page: Page, study: Study, complete: Path) -> None:
    run = run_of(study, "Cascade R-CNN", "mmdet")
    summary = summarize_stages(read_parquet(complete / "runs" / run.id / "stage_statistics.parquet", STAGE_STATISTICS))
    for stage, row in enumerate(summary.to_dict("records"), start=1):
        printed = page.row("stage-values", f"stage {stage}", nth=1 if stage == 1 else 0)
        assert printed[0] == f"stage {stage}|IoU {row['iou_threshold']:g}"
        assert printed[3:6] == [f"{100 * row[f'positives_{percent}']:.2f}" for percent in (50, 60, 70)]
        assert printed[6] == f"{100 * row['outlier_share']:.1f}"
        assert printed[11].split("|") == [f"{row['dx_std']:.3f}", f"÷ {0.1 / stage:.3f}"]


def test_error_table_has_the_numbers_of_the_file(page: Page, study: Study, complete: Path) -> None:
    run = run_of(study, "Cascade R-CNN", "mmdet")
    table = read_parquet(complete / "runs" / run.id / "error_kinds.parquet", ERROR_KINDS)
    rows = table[table["test_stage"] == run.variant.headline].set_index("kind")
    printed = page.row("error-values", run.variant.headline)
    assert printed[0] == f"{run.variant.headline}|headline"
    for kind, cell in zip(KINDS, printed[2:], strict=True):
        cost = f"{100 * rows.loc[kind, 'cost']:.1f}".replace("-0.0", "0.0").replace("-", "−")
        assert cell.split("|") == [cost, f"{rows.loc[kind, 'count']} times"]


def test_quality_matrix_has_a_row_for_every_cell_and_one_scale(page: Page) -> None:
    cells = [row[0] for row in page.tables["quality-values"] if row and row[0].startswith("head")]
    assert cells == 2 * [f"head {head} on stage {stage}" for head in (1, 2, 3) for stage in (1, 2, 3)]
    chart = page.charts()["quality-1"]
    points = next(iter(chart["datasets"].values()))
    ap = {(p["head"], p["stage"]): p["value"] for p in points}
    assert f"{ap[3, 1]:.1f}" == page.row("quality-values", "head 3 on stage 1")[1]


def test_other_proposals_stand_beside_the_own(page: Page) -> None:
    heads = [row[0] for row in page.tables["proposals-values"] if len(row) > 2][2:]
    faster = ["own proposals", "proposals of Cascade R-CNN", "ground truth added"]
    assert sorted(heads[:3]) == sorted(faster)
    own = [f"{100 * scores('mmdet', 1, 1, 0)[name]:.1f}" for name in AP_NAMES]
    assert page.row("proposals-values", "own proposals")[2:] == own


def test_gap_ranges(page: Page) -> None:
    last, base = scores("mmdet", 3, 3, 0), scores("mmdet", 1, 1, 0)
    gaps = 100 * np.array([last[name] - base[name] for name in AP_NAMES])
    printed = page.row("gap-ranges", "stage 3 − baseline")
    means = [gaps[:4].mean(), gaps[4:7].mean(), gaps[7:].mean(), gaps.mean()]
    assert printed[1:5] == [f"{mean:+.1f}".replace("-", "−") for mean in means]
    # The gap is linear in the threshold: it is 0 where gains and losses balance.
    zero = 0.5 + 0.45 * (0.016 + 0.012) / (0.1 + 0.04)
    place, note = printed[5].split("|")
    assert float(place) == pytest.approx(zero, abs=2e-3)
    assert note == "first is better above"


def test_gaps_of_two_cascades_are_compared(tmp_path: Path) -> None:
    study = study_of(tmp_path, "faster_rcnn", "cascade_rcnn", "fscascade")
    page = report_on(study, write_results(tmp_path / "results", study), tmp_path)
    titles = [row[0] for row in page.tables["gap-ranges"] if len(row) == 1]
    difference = "gaps of one cascade minus the same gaps of Cascade R-CNN"
    frameworks = ("MMDetection", "Detectron2")
    assert titles == [title for name in frameworks for title in (name, f"{name}: {difference}")]
    rows = [row for row in page.tables["gap-ranges"] if row[0].startswith("stage 3 − stage 2")]
    notes = ["Cascade R-CNN", "FSCascade", "FSCascade − Cascade R-CNN"]
    assert [row[0].partition("|")[2] for row in rows] == 2 * notes
    assert rows[2][1:] == ["±0.0"] * 4 + ["–"]  # both are made of the same numbers


def test_what_is_missing_is_said(study: Study, complete: Path, tmp_path: Path) -> None:
    results = shutil.copytree(complete, tmp_path / "results")
    run = run_of(study, "Cascade R-CNN", "mmdet")
    (results / "runs" / run.id / "recall.parquet").unlink()
    (results / "runs" / run.id / "localization.parquet").write_bytes(b"no parquet")
    for path in results.rglob("nms_survivors.parquet"):
        path.unlink()
    page = report_on(study, results, tmp_path)
    text = " ".join(page.text.split())
    assert "No recall.parquet: Cascade R-CNN, MMDetection, seed 0." in text
    assert "No localization.parquet: Cascade R-CNN, MMDetection, seed 0." in text
    assert "A diagnostic cannot be read: " in text
    assert "Not recorded in any run: What the RPN's NMS leaves (nms_survivors.parquet)." in text
    assert "nms-values" not in page.tables


def test_without_any_diagnostic_the_section_is_one_sentence(study: Study, tmp_path: Path) -> None:
    page = report_on(study, write_results(tmp_path, study), tmp_path)
    text = " ".join(page.text.split())
    assert "Not recorded in any run: What enters each stage in training (stage_statistics.parquet);" in text
    assert not [name for name in page.tables if name in ("stage-values", "recall-values", "error-values")]
    assert not [name for name in page.charts() if name.startswith(("stage-iou", "quality"))]


def test_the_committed_example_shows_every_diagnostic():
    """As a real run of the embedded study made it."""
    text = (PROJECT / "reports" / "example.html").read_text(encoding="utf-8")
    assert 'id="diagnostics"' in text
    assert "Not recorded in any run" not in text
