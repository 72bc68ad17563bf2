"""Gap curves of a table made by hand, and gaps of arrays: ranges, crossings, bootstrap samples."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cascadebench.metrics.coco.rules import IOUS
from cascadebench.uncertainty.gaps import (
    IOU_RANGES,
    Curve,
    Gap,
    crossings,
    gap_curves,
    gap_differences,
    gap_values,
    gaps_of_run,
    only_crossing,
    over_ranges,
)

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
        f"{ENSEMBLE} - stage 3": [0.03, -0.01],
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
        assert list(gaps_of("casc0", runs=runs)) == [
            "stage 3 - stage 2", "stage 3 - stage 1", f"{ENSEMBLE} - stage 3"
        ]  # fmt: skip


def test_a_cascade_as_baseline_stands_with_its_headline():
    runs = RUNS.copy()
    runs.loc[runs["run"] == "other", "seed"] = 0
    assert gaps_of("other", "Cascade", runs) == {"(1,1) - baseline": [-0.20, float("nan")]}
    assert list(gaps_of("casc0", "Cascade", runs)) == [
            "stage 3 - stage 2", "stage 3 - stage 1", f"{ENSEMBLE} - stage 3"
        ]  # fmt: skip


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


def found(first, second, ious=(0.5, 0.6, 0.7, 0.8)):
    """Crossings of two curves without the NaN."""
    values = crossings(np.array(first, dtype=float), np.array(second, dtype=float), ious)
    return values[np.isfinite(values)].tolist()


def test_curves_cross_between_thresholds():
    # 3 above at 0.6, 1 below at 0.7: three quarters of the way.
    assert found([4, 3, 1, 0], [0, 0, 2, 2]) == pytest.approx([0.675])
    assert found([0, 0, 2, 2], [4, 3, 1, 0]) == pytest.approx([0.675])


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        ([1, 1, 1, 1], []),
        ([0, 0, 0, 0], []),
        ([1, 0, 1, 1], []),  # they touch
        ([0, 1, 1, 0], []),  # they meet at the ends
        ([0, -1, 1, 1], [0.65]),
        ([1, 0, -1, -1], [0.6]),
        ([1, 0, 0, -1], [0.65]),
        ([1, -1, 1, -1], [0.55, 0.65, 0.75]),
        ([1, np.nan, -1, 1], [0.75]),  # what is unknown is no crossing
        ([1, 0, np.nan, -1], []),
    ],
)
def test_crossings(difference, expected):
    assert found(difference, np.zeros(4)) == pytest.approx(expected)


def test_only_crossing_of_several_samples():
    samples = np.array([[1, -1, -1, -1], [1, 1, 1, 1], [1, -1, 1, 1]], dtype=float)
    values = crossings(samples, np.zeros((3, 4)), (0.5, 0.6, 0.7, 0.8))
    assert values.shape == (3, 3)
    assert np.isfinite(values).sum(axis=-1).tolist() == [1, 0, 2]
    assert only_crossing(values) == pytest.approx([0.55, np.nan, np.nan], nan_ok=True)


def test_ranges_of_thresholds():
    values = np.arange(10.0)
    assert over_ranges(values).tolist() == [1.5, 5, 8, 4.5]
    assert over_ranges(np.stack([values, 2 * values])).tolist() == [[1.5, 5, 8, 4.5], [3, 10, 16, 9]]
    values[5] = np.nan
    assert over_ranges(values) == pytest.approx([1.5, np.nan, 8, np.nan], nan_ok=True)
    assert over_ranges(np.array([1.0, 3.0]), (0.5, 0.65)) == pytest.approx([2, np.nan, np.nan, 2], nan_ok=True)
    assert len(IOU_RANGES) == 4


def detector(run, stages=3, classifiers=3, headline="(3,3)"):
    return SimpleNamespace(run=run, stages=stages, classifiers=classifiers, headline=headline)


def test_samples_go_through_the_same_functions():
    rng = np.random.default_rng(0)
    baseline = detector("fpn", 1, 1, "(1,1)")
    gaps = gaps_of_run(detector("fs"), baseline)
    names = ["(1,1)", "(2,2)", "(3,3)", *(f"(3,1-3) {rule}" for rule in ("probabilities", "logits", "last RoIs"))]
    samples = {Curve("fs", name): rng.uniform(size=(50, len(IOUS))) for name in names}
    samples[Curve("fpn", "(1,1)")] = rng.uniform(size=(50, len(IOUS)))
    assert {curve for gap in gaps for curve in gap.curves()} == set(samples)
    for gap in gaps:
        values = gap_values(gap, samples)
        assert (values.by_iou.shape, values.by_range.shape, values.crossings.shape) == ((50, 10), (50, 4), (50, 9))
        for sample in (0, 49):
            alone = gap_values(gap, {curve: values[sample] for curve, values in samples.items()})
            assert alone.by_iou.tolist() == values.by_iou[sample].tolist()
            assert alone.by_range == pytest.approx(values.by_range[sample])
            assert alone.crossings == pytest.approx(values.crossings[sample], nan_ok=True)


def test_difference_of_the_gaps_of_two_detectors():
    baseline = detector("fpn", 1, 1, "(1,1)")
    ours, theirs = gaps_of_run(detector("fs"), baseline), gaps_of_run(detector("cascade"), baseline)
    by_name = {gap.name: gap for gap in gap_differences(ours, theirs)}
    assert list(by_name) == [gap.name for gap in ours]
    levels = {("fs", "(3,3)"): 0.5, ("fs", "(2,2)"): 0.51, ("cascade", "(3,3)"): 0.48, ("cascade", "(2,2)"): 0.52}
    curves = {Curve(*place): np.full(10, level) for place, level in levels.items()}
    values = gap_values(by_name["stage 3 - stage 2"], curves)
    assert values.by_iou == pytest.approx(np.full(10, 0.03))
    assert values.by_range == pytest.approx(np.full(4, 0.03))
    other = gaps_of_run(detector("cascade", 4, 4, "(4,4)"), baseline)
    assert gap_differences(ours, other) == []


def test_any_two_test_stages_make_a_gap():
    gap = Gap("mine", Curve("a", "(1,1)"), Curve("b", "(3,1)"))
    rising, falling = np.linspace(0, 0.9, 10), np.linspace(0.9, 0, 10)
    values = gap_values(gap, {Curve("a", "(1,1)"): falling, Curve("b", "(3,1)"): rising})
    assert values.by_iou == pytest.approx(falling - rising)
    assert only_crossing(values.crossings) == pytest.approx(0.725)
    with pytest.raises(KeyError):
        gap_values(gap, {})
