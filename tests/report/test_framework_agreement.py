"""The same detector in two frameworks, AP with intervals, the matrix of test stages, cost: compared with the files."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from made_results import AP_NAMES, headlines, interval, run_of, scores, variant_of_tiny, write_csv, write_results
from parsed_page import Page, report_on

from cascadebench.evidence.hypotheses import AGREEMENT
from cascadebench.evidence.verdict_files import VERDICTS
from cascadebench.study.study import Study

HEADLINE = "(3,1-3) probabilities"


@pytest.fixture(scope="module")
def complete(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with a few intervals; not to be changed."""
    root = write_results(tmp_path_factory.mktemp("agreement"), study)
    rows = [
        interval(study, "Cascade R-CNN", "0.50-0.95", 0.41, 0.472, test_stage=HEADLINE),
        interval(study, "Cascade R-CNN", "AP75", -0.013, 0.0312, gap=f"{HEADLINE} - baseline"),
        interval(study, "Cascade R-CNN", "AP60", 0.011, 0.02, gap=f"{HEADLINE} - baseline"),
        interval(study, "Cascade R-CNN", "AP75", -0.0221, 0.0342, gap="mmdet - detectron2"),
        interval(study, "Cascade R-CNN", "0.50-0.95", -0.0112, 0.0231, gap="mmdet - detectron2"),
        interval(study, "Faster R-CNN FPN", "0.50-0.95", 0.0012, 0.0131, gap="mmdet - detectron2"),
    ]
    write_csv(root / "studies" / study.name / "intervals.csv", rows)
    verdicts = [
        agreement("cascade_rcnn", "inconclusive", -0.0131, 0.0252),
        agreement("faster_rcnn", "supported", 0.0006, 0.0094),
    ]
    pd.DataFrame(verdicts, columns=list(VERDICTS)).to_csv(root / "studies" / study.name / "verdicts.csv", index=False)
    return root


def agreement(variant: str, word: str, low: float, high: float) -> dict:
    """A row of verdicts.csv on whether the frameworks agree."""
    row = dict.fromkeys(VERDICTS) | {"claim": f"frameworks-agree-{variant}", "source": AGREEMENT, "verdict": word}
    row |= {"framework": "mmdet - detectron2", "backbone": "resnet18_narrow", "value": 0.005, "unit": "fraction"}
    return row | {
        "adjusted_low": low,
        "adjusted_high": high,
        "samples": 1999,
        "holm_level": 0.01,
        "sampling": "images and seeds",
    }


def signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def test_accuracy_has_the_intervals_of_values_and_of_differences(page: Page) -> None:
    row = page.row("headline", "Cascade R-CNN")
    assert row[1].split("|")[1] == "41.0 to 47.2"
    by_iou = dict(zip(AP_NAMES, row[2:], strict=False))
    assert by_iou["AP75"].split("|")[2] == "−1.3 to +3.1"
    # An interval of another threshold stays in the file; a value without one has none.
    assert [len(by_iou[name].split("|")) for name in ("AP60", "AP90")] == [2, 2]
    assert "its own 95% interval" in page.text


def test_frameworks_are_compared_at_every_iou(page: Page, complete: Path) -> None:
    for label in ("Faster R-CNN FPN", "Cascade R-CNN"):
        first, second = (headlines(complete).loc[one, label] for one in ("mmdet", "detectron2"))
        row = page.row("agreement-values", label)
        assert row[0] == f"{label}|1 seed"
        assert row[1:3] == [f"{100 * one['AP']:.1f}" for one in (first, second)]
        assert [cell.split("|")[0] for cell in (row[3], *row[5:])] == [
            signed(first[name] - second[name]) for name in ("AP", *AP_NAMES)
        ]
    assert page.row("agreement-values", "Cascade R-CNN")[5 + AP_NAMES.index("AP75")].endswith("|−2.2 to +3.4")
    points = page.charts()["agreement-by-iou-2"]["datasets"].values()
    banded = [p for rows in points for p in rows if p.get("low") != p.get("high")]
    assert [(p["iou"], p["low"], p["high"]) for p in banded] == [(0.75, -2.21, 3.42)]


def test_frameworks_are_equal_where_a_test_of_equivalence_says_so(page: Page) -> None:
    """Cascade R-CNN's interval holds zero, and that is no equality."""
    assert page.row("agreement-values", "Cascade R-CNN")[4] == "inconclusive|[−1.3, +2.5]"
    assert page.row("agreement-values", "Faster R-CNN FPN")[4] == "equal|[+0.1, +0.9]"
    text = " ".join(page.text.split())
    assert "Of 2 detectors: equal for 1 and inconclusive for 1." in text
    found = "Faster R-CNN FPN differs most: +0.6 AP, MMDetection minus Detectron2 (95% interval +0.1 to +1.3)."
    assert f"Between frameworks {found} Equal within 1.0: supported." in text
    assert "holds zero" not in text
    assert "published claim" not in strip(text), "frameworks are no claim of a source"


def strip(text: str) -> str:
    """What the summary says of verdicts."""
    return text[: text.index("has the highest AP")]


def test_frameworks_are_compared_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    study = variant_of_tiny(tmp_path, seeds=[0, 1, 2])
    lost = run_of(study, "Cascade R-CNN", "mmdet", 2).id
    page = report_on(study, write_results(tmp_path, study, failed=(lost,)), tmp_path)
    row = page.row("agreement-values", "Cascade R-CNN")
    assert row[0] == "Cascade R-CNN|2 seeds of 3"
    values = {one: [scores(one, 3, 2, seed)["AP"] for seed in (0, 1)] for one in ("mmdet", "detectron2")}
    assert row[1:3] == [f"{50 * sum(values[one]):.1f}" for one in ("mmdet", "detectron2")]
    assert row[3].split("|")[0] == signed((sum(values["mmdet"]) - sum(values["detectron2"])) / 2)
    assert f"not judged yet; “cascadebench intervals {study.name}” does it" in page.text


def test_one_framework_has_nothing_to_compare(tmp_path: Path) -> None:
    study = variant_of_tiny(tmp_path, frameworks=["mmdet"])
    page = report_on(study, write_results(tmp_path, study), tmp_path)
    assert "agreement-values" not in page.tables
    assert "agreement" not in {attributes.get("id") for _, attributes in page.tags}
    assert "#agreement" not in {attributes.get("href") for _, attributes in page.tags}


def test_matrix_of_test_stages_has_the_values_of_the_table(page: Page) -> None:
    cells = next(iter(page.charts()["stage-matrix-1"]["datasets"].values()))
    assert len(cells) == 4 * 6
    columns = {"AP": 1, "AP50": 2, "AP75": 2 + AP_NAMES.index("AP75"), "AP90": 2 + AP_NAMES.index("AP90")}
    for cell in cells:
        printed = page.row("stages", f"({cell['boxes']},{cell['scores']})")[columns[cell["measure"]]]
        assert f"{cell['value']:.1f}" == printed
    for measure in columns:
        shades = {cell["value"]: cell["shade"] for cell in cells if cell["measure"] == measure}
        assert (shades[min(shades)], shades[max(shades)]) == (0, 1)


def test_cost_charts_have_the_values_of_the_files(page: Page, study: Study, complete: Path) -> None:
    points = next(rows for rows in page.charts()["cost-accuracy-1"]["datasets"].values() if len(rows) == 4)
    found = {(point["label"], point["framework"]): point for point in points}
    costs = pd.read_csv(complete / "studies" / study.name / "cost.csv").set_index(["label", "framework"])["parameters"]
    for framework, title in (("mmdet", "MMDetection"), ("detectron2", "Detectron2")):
        for label in ("Faster R-CNN FPN", "Cascade R-CNN"):
            point = found[label, title]
            assert point["cost"] == pytest.approx(costs[label, framework] / 1e6)
            assert point["value"] == pytest.approx(100 * headlines(complete).loc[framework, label]["AP"], abs=0.01)
    assert (found["Cascade R-CNN", "MMDetection"]["low"], found["Cascade R-CNN", "MMDetection"]["high"]) == (41, 47.2)


def test_categories_stand_in_a_table_for_every_framework(page: Page, study: Study) -> None:
    assert [name for name in page.tables if name.startswith("categories")] == ["categories-1", "categories-2"]
    position = 2
    row = page.row("categories-2", study.dataset.categories[position])
    base, ours = (
        {name: scores("detectron2", *stage, 0)[name] - 0.01 * position for name in ("AP", "AP50", "AP75")}
        for stage in ((1, 1), (3, 2))
    )
    assert row[1:4] == [f"{100 * base[name]:.1f}" for name in base]
    assert row[4:] == [f"{100 * ours[name]:.1f}|{signed(ours[name] - base[name])}" for name in ours]


def test_without_costs_or_values_the_sections_say_so(study: Study, complete: Path, tmp_path: Path) -> None:
    results = shutil.copytree(complete, tmp_path / "results")
    for name in ("ap", "cost", "ap_per_class"):
        (results / "studies" / study.name / f"{name}.csv").unlink()
    page = report_on(study, results, tmp_path)
    assert "Nothing to compare: no detector has headline AP values in two frameworks" in page.text
    assert "No costs: cost.csv is missing or empty." in page.text
    assert "No values per category: ap_per_class.csv is missing or empty." in page.text
    names = {name.rpartition("-")[0] for name in page.charts()}
    assert not names & {"cost-accuracy", "stage-matrix", "agreement-by-iou"}
