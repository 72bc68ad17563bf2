"""What is said of intervals that do not hold as they should in simulation."""

import itertools
import json

import pandas as pd
import pytest
from detection_cases import annotations

from benchmarks.coverage import CLASSES, IMAGES, SEEDS
from cascadebench.uncertainty import simulated_coverage as module
from cascadebench.uncertainty.compare_files import compare_files
from cascadebench.uncertainty.simulated_coverage import (
    coverage_warning,
    nearest,
    simulated,
    simulated_as,
    simulated_coverage,
)

HELD = {"AP": 85.0, "gap of AP": 88.0, "gap of AP90": 98.2, "gap of AP50": 92.1}
"""With 100 images, 80 classes and one seed; 95% of all others."""


@pytest.fixture
def table(monkeypatch):
    """A made-up table."""
    cells = list(itertools.product((100, 1000), (1, 80), (1, 3)))
    found = {name: dict.fromkeys(cells, (95.0, 1.0)) for name in ("AP", "gap of AP", "gap of AP90", "gap of AP50")}
    for name, share in HELD.items():
        found[name][100, 80, 1] = share, 1.0
    monkeypatch.setattr(module, "simulated", lambda: found)


@pytest.mark.parametrize(
    ("asked", "cell"),
    [
        ((100, 80, 1), (100, 80, 1)),
        ((999, 2, 2), (100, 80, 1)),  # fewer images, more classes and fewer seeds are the harder case
        ((5000, 1, 10), (1000, 1, 3)),
        ((7, 1203, 1), (100, 80, 1)),  # nothing harder was simulated
    ],
)
def test_the_nearest_cell_is_no_easier_where_there_is_one(table, asked, cell):
    assert nearest(*asked) == cell


def test_coverage_is_that_of_the_nearest_cell(table):
    assert simulated_coverage("AP", 118, 33, 1) == 85
    assert simulated_coverage("AP", 118, 33, 3) == 95
    assert simulated_coverage("crossing", 118, 33, 1) is None


def test_of_the_table_the_worse_detectors_count(monkeypatch, tmp_path):
    rows = [
        ("AP", 100, 1, "equal", 1, 1000, 940),
        ("AP", 100, 1, "unequal", 1, 1000, 910),
        ("AP", 118, 80, "real", 1, 1000, 100),
        ("crossing", 100, 1, "equal", 1, 49, 1),  # too few to tell
    ]
    names = ["number", "images", "classes", "detectors", "seeds", "intervals", "held"]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "table.csv", index=False)
    monkeypatch.setattr(module, "TABLE", tmp_path / "table.csv")
    assert simulated.__wrapped__() == {"AP": {(100, 1, 1): (91.0, pytest.approx(0.69, abs=0.01))}}


def test_a_warning_names_the_cell_and_the_share(table):
    assert coverage_warning(["AP", "gap of AP", "crossing"], 118, 33, 1) == (
        "With 100 images, 80 classes, 1 seed about 85 to 88% of the 95% intervals of AP and gap of AP hold in "
        "simulation, not 95%."
    )
    assert coverage_warning(["gap of AP90", "gap of AP"], 100, 80, 1) == (
        "With 100 images, 80 classes, 1 seed about 88% of the 95% intervals of gap of AP hold in simulation, not 95%, "
        "and about 98% of the 95% intervals of gap of AP90 hold in simulation: they are wider than they need to be."
    )
    assert coverage_warning(["gap of AP50"], 100, 80, 1) == "", "92.1 may be 93 by the luck of the simulation"
    assert coverage_warning(["AP"], 30, 80, 1).endswith("not 95%; fewer images were not simulated.")
    assert coverage_warning(["AP", "gap of AP"], 1000, 80, 1) == coverage_warning(["AP"], 118, 33, 3) == ""


@pytest.mark.parametrize(
    ("quantity", "gap", "number"),
    [
        ("0.50-0.95", "", "AP"),
        ("AP60", "stage 3 - baseline", "gap of AP50"),
        ("0.50-0.65", "(3,1-3) last RoIs - stage 3", "gap of AP50"),
        ("AP80", "", "AP75"),
        ("0.70-0.80", "(stage 3 - stage 2) - (stage 3 - stage 2 of Cascade R-CNN)", "gap of gaps of AP75"),
        ("0.85-0.95", "mmdet - detectron2", "gap of AP90"),
        ("crossing", "stage 3 - stage 2", "crossing"),
    ],
)
def test_every_quantity_has_a_number_that_was_simulated(quantity, gap, number):
    assert simulated_as(quantity, gap) == number
    assert number in simulated()


def test_the_table_has_every_cell():
    table = pd.read_csv(module.TABLE)
    words = ["images", "classes", "detectors", "seeds"]
    found = {number: set(map(tuple, rows[words].to_numpy())) for number, rows in table.groupby("number")}
    for detectors in ("equal", "unequal"):
        for number in {*found} - {"crossing"}:
            assert set(itertools.product(IMAGES[:3], CLASSES, [detectors], SEEDS)) <= found[number]
    assert set(itertools.product(IMAGES[:3], CLASSES, ["crossing"], SEEDS)) <= found["crossing"]
    assert (table["held"] <= table["intervals"]).all()
    assert (table["intervals"] <= table["sets"]).all()


def test_compare_warns(table, tmp_path, monkeypatch):
    boxes = [(n, 1 + n % 2, 5, 5, 40, 40) for n in range(1, 31)]
    truth = annotations(boxes, images=range(1, 31), categories=["a", "b", "never"])
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    found = [{"image_id": one["image_id"], "category_id": one["category_id"], "score": 0.5, "bbox": one["bbox"]}
             for one in truth["annotations"]]  # fmt: skip
    for name, results in (("a", found), ("b", found[:20])):
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
    comparison = compare_files(tmp_path / "truth.json", [tmp_path / "a.json", tmp_path / "b.json"], resamples=99)
    assert (comparison["images"], comparison["classes"]) == (30, 2)
    assert comparison["coverage_warning"] == coverage_warning(["gap of AP", "gap of AP90"], 30, 2, 1)
    assert "88%" in comparison["coverage_warning"]
    assert "fewer images were not simulated" in comparison["coverage_warning"]
