"""Gap curves of a table made by hand."""

import pandas as pd
import pytest

from cascadebench.evaluation.gaps import gap_curves

ENSEMBLE = "(3,1-3) probabilities"
RUNS = pd.DataFrame(
    [
        ("base0", "FPN", "mmdet", "r50", 0, 1, 1, "(1,1)"),
        ("base1", "FPN", "mmdet", "r50", 1, 1, 1, "(1,1)"),
        ("casc0", "Cascade", "mmdet", "r50", 0, 3, 3, ENSEMBLE),
        ("casc2", "Cascade", "mmdet", "r50", 2, 3, 3, ENSEMBLE),
        ("other", "u = 0.6", "mmdet", "r50", 1, 1, 1, "(1,1)"),
    ],
    columns=["run", "label", "framework", "backbone", "seed", "stages", "classifiers", "headline"],
)
AP = {
    ("base0", "(1,1)"): (0.50, 0.10),
    ("base1", "(1,1)"): (0.40, 0.20),
    ("casc0", "(1,1)"): (0.49, 0.12),
    ("casc0", "(2,2)"): (0.53, 0.15),
    ("casc0", "(3,2)"): (0.99, 0.99),
    ("casc0", "(3,3)"): (0.52, 0.25),
    ("casc0", ENSEMBLE): (0.55, 0.24),
    ("casc2", "(3,3)"): (0.60, 0.30),
    ("casc2", "(1,1)"): (0.50, 0.10),
    ("other", "(1,1)"): (0.35, float("nan")),
}
CURVES = pd.DataFrame(
    [(run, stage, iou, ap) for (run, stage), pair in AP.items() for iou, ap in zip((0.5, 0.95), pair, strict=True)],
    columns=["run", "test_stage", "iou", "ap"],
)


def gaps_of(run, baseline="FPN", runs=RUNS):
    """Gap name to its two values."""
    table = gap_curves(CURVES, runs, baseline)
    rows = table[table["run"] == run]
    assert rows["iou"].tolist() == [0.5, 0.95] * (len(rows) // 2)
    return {gap: pytest.approx(part["gap_ap"].tolist(), nan_ok=True) for gap, part in rows.groupby("gap", sort=False)}


def test_gaps_of_a_cascade():
    assert gaps_of("casc0") == {
        "stage 3 - stage 2": [-0.01, 0.10],
        "stage 3 - stage 1": [0.03, 0.13],
        "stage 3 - baseline": [0.02, 0.15],
        f"{ENSEMBLE} - baseline": [0.05, 0.14],
    }


def test_without_baseline_of_the_same_seed_or_a_test_stage_those_gaps_are_left_out():
    assert gaps_of("casc2") == {"stage 3 - stage 1": [0.10, 0.20]}


def test_one_stage_has_the_gap_to_the_baseline_of_its_seed_only():
    assert gaps_of("other") == {"(1,1) - baseline": [-0.05, float("nan")]}
    assert gaps_of("base0") == {}


def test_a_baseline_of_another_framework_or_backbone_is_none():
    for column, value in (("framework", "detectron2"), ("backbone", "r101")):
        runs = RUNS.copy()
        runs.loc[0, column] = value
        assert list(gaps_of("casc0", runs=runs)) == ["stage 3 - stage 2", "stage 3 - stage 1"]


def test_a_cascade_as_baseline_stands_with_its_headline():
    runs = RUNS.copy()
    runs.loc[runs["run"] == "other", "seed"] = 0
    assert gaps_of("other", "Cascade", runs) == {"(1,1) - baseline": [-0.20, float("nan")]}
    assert list(gaps_of("casc0", "Cascade", runs)) == ["stage 3 - stage 2", "stage 3 - stage 1"]


def test_rows_carry_the_run():
    row = gap_curves(CURVES, RUNS, "FPN").iloc[0]
    assert row.drop("gap_ap").to_dict() == {
        "run": "casc0", "label": "Cascade", "framework": "mmdet", "backbone": "r50", "seed": 0,
        "gap": "stage 3 - stage 2", "iou": 0.5,
    }  # fmt: skip


def test_no_runs():
    empty = gap_curves(CURVES.head(0), RUNS.head(0), "FPN")
    assert list(empty) == ["run", "label", "framework", "backbone", "seed", "gap", "iou", "gap_ap"]
    assert len(empty) == 0
