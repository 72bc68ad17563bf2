"""The report: one offline file with every section, the right numbers, and nothing from a file taken for markup."""

import json
import shutil
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest
from made_results import (
    AP_NAMES,
    HOSTILE,
    headlines,
    interval,
    run_of,
    scores,
    variant_of_tiny,
    write_audit,
    write_csv,
    write_results,
)
from parsed_page import Page, report_on

from cascadebench.controls.definitions import CONTROLS
from cascadebench.controls.findings import Finding
from cascadebench.core.errors import InputError
from cascadebench.report import page as page_module
from cascadebench.report import write_report
from cascadebench.report.data.collect import collect
from cascadebench.report.page import SCRIPTS
from cascadebench.report.parts.cells import Cell, Group, Row, Table, text_columns
from cascadebench.report.parts.charts import Drawing, figure
from cascadebench.report.parts.section import Section, has_runs
from cascadebench.report.sections import SECTIONS
from cascadebench.study.study import Study


def test_sections_stand_in_order(page: Page) -> None:
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section" and "id" in attributes]
    results = (
        "summary accuracy claims curves gaps agreement test-stages per-category examples training cost diagnostics"
    )
    assert sections == f"{results} protocol audit dataset environment runs limits repeat".split()


def test_a_new_section_is_a_module_and_a_template(
    study: Study, complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its module builds is printed by its template; nothing else names its table or its figure."""
    chart = alt.Chart(pd.DataFrame({"day": [1]})).mark_point().encode(x="day:Q")
    drawn = figure("weather", "Rain.", "rain", [Drawing("Rain", "Rain by day.", chart)])
    rain = Table("rain", "Rain by day.", text_columns("Day", "Rain"), (Group("", (Row(Cell("1"), (Cell("much"),)),)),))
    build = lambda results: {"rains": [(drawn, rain)], "runs": len(results.runs)}  # noqa: E731
    templates = Path(shutil.copytree(page_module.TEMPLATES, tmp_path / "templates"))
    (templates / "sections" / "weather.html.jinja").write_text(
        '{% from "macros.html.jinja" import table, figure %}\n<p>{{ runs }} runs.</p>\n'
        '{% for drawn, rain in rains %}{{ figure(drawn, "") }}{{ table(rain, "") }}{% endfor %}'
    )
    monkeypatch.setattr(page_module, "TEMPLATES", templates)
    unneeded = Section("drought", "Drought", build, needs=lambda results: not results.runs)
    sections = (Section("weather", "Weather and rain", build, entry="Weather", needs=has_runs), unneeded, *SECTIONS)
    page = Page(page_module.render(collect(study, complete), sections))
    assert [attributes["id"] for tag, attributes in page.tags if tag == "section"][:2] == ["weather", "summary"]
    assert ("a", {"href": "#weather"}) in page.tags
    assert "Weather and rain\n4 runs." in page.text
    assert page.row("rain", "1") == ["1", "much"]
    assert page.charts()["weather-1"]["description"] == "Rain by day."


def test_every_chart_has_a_place_a_description_and_a_table(page: Page) -> None:
    specifications = page.charts()
    # AP, gaps against baseline and stage before, test stages, loss, learning rate: for each of two frameworks; the two
    # frameworks compared for each of two detectors; three costs.
    assert len(specifications) == 2 * 6 + 2 + 3
    assert all(len(specification["description"]) > 40 for specification in specifications.values())
    assert page.html.count("<noscript>") == 7


def test_header_cells_have_a_scope(page: Page) -> None:
    assert {attributes.get("scope") for tag, attributes in page.tags if tag == "th"} == {
        "col", "colgroup", "row", "rowgroup",
    }  # fmt: skip


def test_headline_table_prints_the_values_of_the_csv(page: Page, study: Study, complete: Path) -> None:
    rows = headlines(complete)
    names = ["AP", *AP_NAMES, "APs", "APm", "APl", "AR100"]
    for nth, framework in enumerate(study.file.frameworks):
        base, cascade = (rows.loc[framework, label] for label in ("Faster R-CNN FPN", "Cascade R-CNN"))
        printed = page.row("headline", "Faster R-CNN FPN", nth)[1:]
        assert printed == ["–" if np.isnan(base[name]) else f"{100 * base[name]:.1f}" for name in names]
        for name, cell in zip(names, page.row("headline", "Cascade R-CNN", nth)[1:], strict=True):
            if np.isnan(cascade[name]):
                assert cell == "–"
                continue
            value, difference = cell.split("|")
            assert value == f"{100 * cascade[name]:.1f}"
            expected = f"{100 * (cascade[name] - base[name]):+.1f}"
            assert difference == expected.replace("-", "−")


def test_stage_table_has_every_test_stage_and_marks_the_headline(page: Page) -> None:
    heads = [row[0] for row in page.tables["stages"] if row and row[0].startswith("(")]
    pairs = ["(1,1)", "(2,1)", "(2,2)", "(3,1)", "(3,2)", "(3,3)"]
    rules = ["(3,1-3) probabilities|headline", "(3,1-3) logits", "(3,1-3) last RoIs"]
    assert heads == 2 * (pairs + rules)


def test_curves_hold_the_values_of_the_table(page: Page) -> None:
    specification = page.charts()["ap-by-iou-1"]
    points = next(iter(specification["datasets"].values()))
    by_label = {
        label: [p["value"] for p in points if p["label"] == label] for label in ("Faster R-CNN FPN", "Cascade R-CNN")
    }
    for label, values in by_label.items():
        assert [f"{value:.1f}" for value in values] == [
            cell.split("|")[0] for cell in page.row("headline", label)[2:12]
        ]


def test_findings_name_the_best_detector_and_the_caution(page: Page) -> None:
    assert "4 of 4 runs evaluated" in page.text
    best = page.row("headline", "Cascade R-CNN")[1].split("|")
    assert f"MMDetection: Cascade R-CNN has the highest AP, {best[0]} ({best[1]} against Faster R-CNN FPN)" in page.text
    assert "A difference of AP without an interval is no verdict" in page.text


def test_controls_that_differ_between_frameworks_are_marked(page: Page) -> None:
    marked = [row[0] for row in page.tables["control-values"] if row and "≠" in row[0]]
    assert marked == ["rpn.delta_clamp|≠ between frameworks"]
    assert page.row("control-values", "heads.stages")[0] == "heads.stages|changed by a variant, as its card declares"
    assert page.row("control-values", "heads.stages")[1] == "Faster R-CNN FPN|1|Cascade R-CNN|3"
    assert page.row("control-values", "optimizer.lr") == [
        "optimizer.lr",
        *2 * ["0.04", "optimizer.param_groups[0]['lr']"],
    ]


def test_protocol_table_has_every_value(study: Study, page: Page) -> None:
    assert page.row("protocol-values", "base_lr")[1] == f"{study.protocol.schedule.base_lr:g}"
    assert page.row("protocol-values", "anchors.scale")[1] == "4"
    assert page.row("protocol-values", "gradient_clip_norm")[1] == "10"


def test_the_audit_states_framework_differences_once(study: Study, page: Page) -> None:
    verdict = f"0 violations; 1 stated framework difference ({len(CONTROLS)} controls in {len(study.runs)} runs)."
    assert page.text.count(verdict) == 2
    assert page.text.index(f"Controls audited: {verdict}") < page.text.index("AP by IoU threshold")
    assert "audit-violations" not in page.tables
    runs = [f"Faster R-CNN FPN, {name}, seed 0|Cascade R-CNN, {name}, seed 0" for name in ("Detectron2", "MMDetection")]
    row = ["model.operators", runs[0], "vision|a.nms", runs[1], "mmcv|b.nms", "Why."]
    assert page.tables["audit-frameworks"][1:] == [row]


def test_violations_are_told_at_the_top_and_accepted_ones_with_their_reason(study: Study, tmp_path: Path) -> None:
    results = write_results(tmp_path, study)
    wrong, fine = study.run_ids[-1], study.run_ids[0]
    write_audit(
        results, study,
        Finding("violation", "protocol", "rpn.nms_iou", wrong, "protocol", 0.7000001, 0.7, "x.iou", reason=HOSTILE),
        Finding("violation", "readings", "rpn.border", fine, reason="not read"),
        Finding("accepted", "treatment", "input.resize", wrong, fine, "cv2", "pillow", "y", "z", "It is a test."),
    )  # fmt: skip
    page = report_on(study, results, tmp_path)
    assert page.text.count("2 violations; 1 accepted violation; 0 stated framework differences") == 2
    assert page.text.index("audit of the controls found violations") < page.text.index("AP by IoU threshold")
    title = "Cascade R-CNN, Detectron2, seed 0"
    value = ["rpn.nms_iou", title, "0.7000001|x.iou", "the protocol", "0.7", HOSTILE]
    assert page.tables["audit-violations"][1:] == [
        value, ["rpn.border", "Faster R-CNN FPN, MMDetection, seed 0", "", "", "", "not read"],
    ]  # fmt: skip
    assert page.row("audit-accepted", "input.resize")[-1] == "It is a test."


def test_failed_run_is_shown_with_its_reason(study: Study, tmp_path: Path) -> None:
    page = report_on(study, write_results(tmp_path, study, failed=(study.run_ids[-1],)), tmp_path)
    text = " ".join(page.text.split())
    assert "3 of 4 runs evaluated1 failed" in text
    assert "Cascade R-CNN, Detectron2, seed 0 failed: DivergedError: the loss is not finite at iteration 180" in text
    assert 'File "session.py", line 9, in step' in text
    row = page.row("headline", "Cascade R-CNN", 1)
    assert row[0].endswith("failed, see Runs")
    assert set(row[1:]) == {"–"}
    assert page.row("training-ends", "Cascade R-CNN", 1)[1] == "180 of 480"


def test_text_from_files_is_never_markup(tmp_path: Path) -> None:
    variants = [{"variant": "faster_rcnn"}, {"variant": "cascade_rcnn", "label": HOSTILE}]
    study = variant_of_tiny(tmp_path, title=HOSTILE, description="<img src=x onerror=alert(1)>", variants=variants)
    page = report_on(study, write_results(tmp_path, study, failed=(study.run_ids[-1],)), tmp_path)
    assert len(page.executed) == 1 + len(SCRIPTS)
    assert "alert(1)" not in "".join(page.executed)
    assert not {tag for tag, _ in page.tags} & {"img", "b"}
    assert page.row("headline", HOSTILE)[0].startswith(HOSTILE)
    assert HOSTILE in json.dumps(page.charts())
    assert f"at iteration 180: {HOSTILE}" in page.text


@pytest.mark.parametrize(
    ("gone", "sentence"),
    [
        ("studies/tiny/status.csv", "status.csv is missing."),
        ("studies/tiny/ap.csv", "ap.csv is missing."),
        ("studies/tiny/ap_per_class.csv", "ap_per_class.csv is missing."),
        ("studies/tiny/gaps.csv", "gaps.csv is missing."),
        ("studies/tiny/cost.csv", "cost.csv is missing."),
        ("studies/tiny/audit.json", "audit.json is missing."),
        ("studies/tiny/audit.json", "Not audited: audit.json is missing or unreadable."),
        ("studies/tiny/audit.json", "Controls not audited: it is not known"),
        ("runs", "controls.json is missing for 4 of 4 runs."),
        ("datasets", "datasets/shapes/lock.json is missing."),
        (".", "train_log.jsonl is missing or empty for 4 of 4 runs."),
    ],
)
def test_missing_results_are_named(
    study: Study, complete: Path, page: Page, tmp_path: Path, gone: str, sentence: str
) -> None:
    assert sentence not in page.text
    results = shutil.copytree(complete, tmp_path / "results")
    shutil.rmtree(results / gone) if (results / gone).is_dir() else (results / gone).unlink()
    assert sentence in report_on(study, results, tmp_path).text


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"controls": 3, "splits": [1], "log": 5, "versions": "x"}', "\xff,\n"]
)
def test_damaged_files_do_not_stop_the_report(study: Study, complete: Path, tmp_path: Path, content: str) -> None:
    results = shutil.copytree(complete, tmp_path / "results")
    for path in results.rglob("*.*"):
        if path.suffix in (".json", ".jsonl", ".csv") and path.name != "status.csv":
            path.write_text(content, encoding="latin-1")
    page = report_on(study, results, tmp_path)
    assert "4 of 4 runs evaluated" in page.text
    assert "train_log.jsonl is missing or empty for 4 of 4 runs." in page.text
    assert "Not audited: audit.json is missing or unreadable." in page.text


def test_several_seeds_are_averaged_with_their_range(tmp_path: Path) -> None:
    study = variant_of_tiny(tmp_path, seeds=[0, 1, 2])
    lost = run_of(study, "Cascade R-CNN", "mmdet", 2).id
    page = report_on(study, write_results(tmp_path, study, failed=(lost,)), tmp_path)
    values = [100 * scores("mmdet", 3, 2, seed)["AP50"] for seed in (0, 1)]
    base = [100 * scores("mmdet", 1, 1, seed)["AP50"] for seed in (0, 1)]
    difference = (sum(values) - sum(base)) / 2  # over the two seeds that both have
    row = page.row("headline", "Cascade R-CNN")
    assert "mean of 2 of 3 seeds" in row[0]
    assert row[2] == f"{sum(values) / 2:.1f}|{min(values):.1f}…{max(values):.1f}|{difference:+.1f}".replace("-", "−")
    points = next(iter(page.charts()["ap-by-iou-1"]["datasets"].values()))
    means = {(p["label"], p["seeds"]) for p in points if p["seed"] == "all"}
    assert means == {("Faster R-CNN FPN", 3), ("Cascade R-CNN", 2)}
    alone = {p["seed"]: p["value"] for p in points if p["label"] == "Cascade R-CNN" and p["iou"] == 0.5}
    assert {"0": round(values[0], 3), "1": round(values[1], 3)} == {s: v for s, v in alone.items() if s != "all"}


def test_intervals_are_the_bands_and_stand_under_the_ranges(study: Study, complete: Path, tmp_path: Path) -> None:
    results = shutil.copytree(complete, tmp_path / "results")
    label, headline = "Cascade R-CNN", run_of(study, "Cascade R-CNN", "mmdet").variant.headline
    rows = [interval(study, label, "AP75", 0.125, 0.5, test_stage=headline)]
    for quantity, low, high in (("AP75", -0.02, 0.01), ("0.50-0.65", -0.013, 0.024), ("crossing", 0.5712, 0.62)):
        rows.append(interval(study, label, quantity, low, high, gap="stage 3 - stage 2"))
    write_csv(results / "studies" / study.name / "intervals.csv", rows)
    page = report_on(study, results, tmp_path)
    assert "intervals.csv is missing" not in page.text
    assert page.text.count("Bands are 95% intervals") == 2
    charts = page.charts()
    banded = [
        point
        for name, chart in charts.items()
        if name.startswith(("ap-by-iou", "gaps-by-iou"))
        for points in chart["datasets"].values()
        for point in points
        if point.get("interval")
    ]
    assert [(point["iou"], point["low"], point["high"]) for point in banded] == [(0.75, 12.5, 50), (0.75, -2, 1)]
    row = page.row("gap-ranges", "stage 3 − stage 2")
    assert "−1.3 to +2.4" in row[1]
    assert row[-1] == "0.590|0.571 to 0.620|first is better above"
    assert page.row("gap-ranges", "stage 3 − stage 1")[-1].count("|") == 1


def test_training_checks_can_fail(study: Study, page: Page, complete: Path, tmp_path: Path) -> None:
    assert "In all 4 logged runs the learning rate equals the protocol's" in page.text
    assert (
        "What 4 trained runs were given, step by step as the batches said it (images, flips, sizes), is what was "
        "planned, and the same for all runs of a seed."
    ) in " ".join(page.text.split())
    results = shutil.copytree(complete, tmp_path / "results")
    folder = results / "runs" / study.run_ids[1]
    log = (folder / "train_log.jsonl").read_text(encoding="utf-8")
    changed = log.replace(f'"lr": {study.protocol.schedule.base_lr}', '"lr": 0.05')
    assert changed != log
    (folder / "train_log.jsonl").write_text(changed, encoding="utf-8")
    trained = json.loads((folder / "trained.json").read_text(encoding="utf-8")) | {"consumed_sha256": "other"}
    (folder / "trained.json").write_text(json.dumps(trained), encoding="utf-8")
    unrecorded = results / "runs" / study.run_ids[2] / "trained.json"
    unrecorded.write_text(json.dumps({"run": study.run_ids[2]}), encoding="utf-8")
    text = " ".join(report_on(study, results, tmp_path).text.split())
    assert f"In 1 of 4 runs a logged learning rate is not the protocol's: {study.run_ids[1]}." in text
    assert f"Not trained on the planned images, flips and sizes: {study.run_ids[1]}." in text
    assert "The runs of seed 0 did not train on the same images, flips and sizes." in text
    assert "Of 1 trained runs it is not recorded what they were given." in text
    assert "What 3 trained runs were given" not in text


def test_long_logs_are_thinned(tmp_path: Path) -> None:
    study = variant_of_tiny(tmp_path, protocol_override={"schedule": {"iterations": 5000, "steps": [3000, 4000]}})
    page = report_on(study, write_results(tmp_path, study), tmp_path)
    for name in ("training-loss-1", "training-lr-1"):
        points = next(iter(page.charts()[name]["datasets"].values()))
        assert len(points) == 2 * 200 if name == "training-loss-1" else len(points) < 2 * 50


def test_thinned_learning_rates_draw_the_same_line(tmp_path: Path) -> None:
    study = variant_of_tiny(tmp_path, protocol_override={"schedule": {"iterations": 150, "steps": [90, 120]}})
    page = report_on(study, write_results(tmp_path, study), tmp_path)
    points = next(iter(page.charts()["training-lr-1"]["datasets"].values()))
    drawn = [(point["iteration"], point["value"]) for point in points if point["label"] == "Cascade R-CNN"]
    assert len(drawn) < 100
    run = study.runs[0].run
    expected = [run.protocol.schedule.learning_rate(iteration) for iteration in range(150)]
    assert np.interp(range(150), *zip(*drawn, strict=True)) == pytest.approx(expected, rel=1e-3)


def test_numbers_are_kept_unrounded(page: Page, complete: Path) -> None:
    kept = [attributes["data-value"] for tag, attributes in page.tags if tag == "td" and "data-value" in attributes]
    assert float(kept[0]) == pytest.approx(100 * headlines(complete)["AP"].iloc[0], abs=1e-9)


def test_long_tables_are_folded_away(page: Page, tmp_path: Path) -> None:
    assert "State of every run of the study" in page.text
    assert "rows: State of every run of the study" not in page.text
    study = variant_of_tiny(tmp_path, seeds=list(range(16)))
    long = report_on(study, write_results(tmp_path, study), tmp_path)
    assert "Table of 64 rows: State of every run of the study" in long.text


def test_output_must_be_a_file(study: Study, complete: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; name a file"):
        write_report(study, complete, tmp_path)
    assert list(tmp_path.iterdir()) == []
