"""Gap curves of a table made by hand, and gaps of arrays."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cascadebench.uncertainty.curves import over_ranges
from cascadebench.uncertainty.gaps import (
    Curve,
    Gap,
    coefficients,
    gap_curves,
    gap_differences,
    gaps_of_run,
    headline_gap,
    values_of,
)

ENSEMBLE = "(3,1-3) probabilities"


def planned(run, label="", framework="mmdet", backbone="r50", seed=0, detector=(3, 3, "(3,3)")):
    """A planned run with this id."""
    variant = SimpleNamespace(**dict(zip(("stages", "classifiers", "headline"), detector, strict=True)))
    about = {"id": run, "framework": framework, "backbone": SimpleNamespace(name=backbone), "seed": seed}
    return SimpleNamespace(label=label, run=SimpleNamespace(variant=variant, **about))


ONE_STAGE = (1, 1, "(1,1)")


def study_runs(other_seed=1, **of_baseline):
    """The runs; the last with another seed, and the baseline's first with other conditions, where they are given."""
    return [
        planned("base0", "FPN", detector=ONE_STAGE, **of_baseline),
        planned("base1", "FPN", seed=1, detector=ONE_STAGE),
        planned("casc0", "Cascade", detector=(3, 3, ENSEMBLE)),
        planned("casc2", "Cascade", seed=2, detector=(3, 3, ENSEMBLE)),
        planned("other", "u = 0.6", seed=other_seed, detector=ONE_STAGE),
    ]


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


def gaps_of(run, baseline="FPN", **changes):
    """Gap name to its two values."""
    table = gap_curves(CURVES, study_runs(**changes), baseline)
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
    for change in ({"framework": "detectron2"}, {"backbone": "r101"}):
        assert list(gaps_of("casc0", **change)) == [
            "stage 3 - stage 2", "stage 3 - stage 1", f"{ENSEMBLE} - stage 3"
        ]  # fmt: skip


def test_a_cascade_as_baseline_stands_with_its_headline():
    assert gaps_of("other", "Cascade", other_seed=0) == {"(1,1) - baseline": [-0.20, float("nan")]}
    assert list(gaps_of("casc0", "Cascade", other_seed=0)) == [
            "stage 3 - stage 2", "stage 3 - stage 1", f"{ENSEMBLE} - stage 3"
        ]  # fmt: skip


def test_rows_carry_the_run():
    row = gap_curves(CURVES, study_runs(), "FPN").iloc[0]
    assert row.drop("gap_ap").to_dict() == {
        "run": "casc0", "label": "Cascade", "framework": "mmdet", "backbone": "r50", "seed": 0,
        "gap": "stage 3 - stage 2", "iou": 0.5,
    }  # fmt: skip


def test_no_runs():
    empty = gap_curves(CURVES.head(0), [], "FPN")
    assert list(empty) == ["run", "label", "framework", "backbone", "seed", "gap", "iou", "gap_ap"]
    assert len(empty) == 0


def detector(run, stages=3, classifiers=3, headline="(3,3)"):
    return planned(run, detector=(stages, classifiers, headline)).run


def test_a_headline_that_is_the_last_stage_has_one_gap_to_the_baseline():
    baseline = detector("fpn", *ONE_STAGE)
    names = [gap.name for gap in gaps_of_run(detector("fs"), baseline)]
    assert [name for name in names if name.endswith("baseline")] == ["stage 3 - baseline"]
    assert headline_gap(detector("fs").variant) == "stage 3 - baseline"
    assert headline_gap(detector("decoupled", 3, 1, "(3,1)").variant) == "stage 3 - baseline"
    assert headline_gap(detector("cascade", headline=ENSEMBLE).variant) == f"{ENSEMBLE} - baseline"
    assert headline_gap(baseline.variant) == "(1,1) - baseline"


def test_difference_of_the_gaps_of_two_detectors():
    baseline = detector("fpn", *ONE_STAGE)
    ours, theirs = gaps_of_run(detector("fs"), baseline), gaps_of_run(detector("cascade"), baseline)
    by_name = {gap.name: gap_differences({0: gap, 1: gap}, {1: other}) for gap, other in zip(ours, theirs, strict=True)}
    assert {tuple(by_seed) for by_seed in by_name.values()} == {(1,)}
    by_name = {name: by_seed[1] for name, by_seed in by_name.items()}
    levels = {("fs", "(3,3)"): 0.5, ("fs", "(2,2)"): 0.51, ("cascade", "(3,3)"): 0.48, ("cascade", "(2,2)"): 0.52}
    curves = {Curve(*place): np.full(10, level) for place, level in levels.items()}
    assert values_of(by_name["stage 3 - stage 2"], curves) == pytest.approx(np.full(10, 0.03))
    # What both sides share cancels out, so that the baseline is not needed.
    against = by_name["stage 3 - baseline"]
    assert coefficients(against) == {Curve("fs", "(3,3)"): 1, Curve("cascade", "(3,3)"): -1}


def test_any_two_test_stages_make_a_gap():
    gap = Gap("mine", Curve("a", "(1,1)"), Curve("b", "(3,1)"))
    rising, falling = np.linspace(0, 0.9, 10), np.linspace(0.9, 0, 10)
    assert values_of(gap, {Curve("a", "(1,1)"): falling, Curve("b", "(3,1)"): rising}) == pytest.approx(
        falling - rising
    )
    with pytest.raises(KeyError):
        values_of(gap, {})


def test_ranges_of_thresholds():
    values = np.arange(10.0)
    assert over_ranges(values).tolist() == [1.5, 5, 8, 4.5]
    assert over_ranges(np.stack([values, 2 * values])).tolist() == [[1.5, 5, 8, 4.5], [3, 10, 16, 9]]
    values[5] = np.nan
    assert over_ranges(values) == pytest.approx([1.5, np.nan, 8, np.nan], nan_ok=True)
