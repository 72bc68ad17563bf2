"""``cascadebench compare`` on files made by hand."""

import json

import numpy as np
import pytest
from detection_cases import annotations
from typer.testing import CliRunner

import cascadebench
from cascadebench.cli.main import app
from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.ap_table import full_area
from cascadebench.metrics.coco.detections import read_coco_results, write_detections
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.uncertainty.bootstrap import RESAMPLES
from cascadebench.uncertainty.compare_files import compare_files, crossing_words

IMAGES = 40


@pytest.fixture
def files(tmp_path):
    """Annotations; A whose boxes are shifted by a fifth of their side; B that is exact but on every tenth image."""
    random = np.random.default_rng(0)
    boxes = [(n, 1, x, y, 40, 40) for n, (x, y) in enumerate(random.integers(0, 50, (IMAGES, 2)), start=1)]
    truth = annotations(boxes, images=range(1, IMAGES + 1), categories=["thing"])
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for name, shift in (("a", 8), ("b", 0)):
        results = []
        for number, one in enumerate(truth["annotations"]):
            x, *rest = one["bbox"]
            box = [x + (40 if name == "b" and number % 10 == 0 else shift), *rest]
            results.append({"image_id": one["image_id"], "category_id": 1, "score": random.random(), "bbox": box})
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
    return tmp_path


def compare(folder, first="a.json", second="b.json", stages=(), resamples=200, seed=3):
    return compare_files(folder / "truth.json", [folder / first, folder / second], stages, resamples, seed)


def test_paths_may_be_text_and_the_rest_has_defaults(files):
    names = [str(files / f"{name}.json") for name in ("truth", "a", "b")]
    found = cascadebench.compare(names[0], names[1:])
    assert (found["resamples"], found["seed"]) == (RESAMPLES, 0)
    assert found["AP"]["b"] == cascadebench.evaluate(names[0], names[2])[""]["AP"]


def test_values_are_those_of_the_evaluation(files):
    found = compare(files)
    for name in "ab":
        rows = full_area(evaluate(files / "truth.json", read_coco_results(files / f"{name}.json")))
        rows = rows[rows["category"] == "all"]
        assert [row[name] for row in found["per_iou"]] == pytest.approx(rows["ap"].tolist(), abs=1e-15)
        assert found["AP"][name] == pytest.approx(rows["ap"].mean(), abs=1e-12)
    assert [row["iou"] for row in found["per_iou"]] == [round(0.5 + 0.05 * n, 2) for n in range(10)]
    assert (found["resamples"], found["seed"], found["images"]) == (200, 3, IMAGES)


def test_a_clear_difference_is_seen_where_it_is(files):
    """The shifted boxes overlap by two thirds: up to IoU 0.65 A is right everywhere and B but for a tenth."""
    rows = {row["iou"]: row for row in compare(files)["per_iou"]}
    for row in rows.values():
        assert row["delta"] == row["b"] - row["a"]
        assert row["low"] <= row["delta"] <= row["high"]
    assert rows[0.5]["delta"] < 0
    assert rows[0.5]["p_greater"] < 0.05
    assert rows[0.7]["low"] > 0.5
    assert rows[0.7]["p_greater"] == 1


def test_a_file_against_itself_is_no_difference(files):
    found = compare(files, second="a.json")
    for row in (found["AP"], *found["per_iou"]):
        assert (row["delta"], row["low"], row["high"], row["p_greater"]) == (0, 0, 0, 0.5)


def test_the_same_seed_gives_the_same_numbers(files):
    assert compare(files) == compare(files)
    assert compare(files)["AP"]["low"] != compare(files, seed=4)["AP"]["low"]


def test_ranges_are_means_over_their_thresholds_with_intervals(files):
    found = compare(files)
    by_iou = {row["iou"]: row for row in found["per_iou"]}
    assert [row["range"] for row in found["ranges"]] == ["0.50-0.65", "0.70-0.80", "0.85-0.95", "0.50-0.95"]
    for row in found["ranges"]:
        low, high = (float(end) for end in row["range"].split("-"))
        for key in ("a", "b", "delta"):
            mean = np.mean([one[key] for iou, one in by_iou.items() if low <= iou <= high])
            assert row[key] == pytest.approx(mean, abs=1e-12)
        assert row["low"] <= row["delta"] <= row["high"]
    for key, value in found["AP"].items():
        assert found["ranges"][-1][key] == pytest.approx(value)
    assert found["ranges"][0]["p_greater"] < 0.05


def test_the_crossing_is_where_b_becomes_better(files):
    """A is right up to IoU 0.65 and wrong from 0.70 on, and B the same everywhere."""
    found = compare(files)
    crossing, rows = found["crossing"], {row["iou"]: row["delta"] for row in found["per_iou"]}
    expected = 0.65 + 0.05 * rows[0.65] / (rows[0.65] - rows[0.7])
    assert crossing["crossings"] == 1
    assert crossing["iou"] == pytest.approx(expected)
    assert 0.65 < crossing["low"] < crossing["iou"] < crossing["high"] < 0.7
    assert 0.95 <= crossing["share"] <= 1
    assert compare(files, "b.json", "a.json")["crossing"] == pytest.approx(crossing)
    none = {"crossings": 0, "iou": None, "low": None, "high": None, "share": 0}
    assert compare(files, second="a.json")["crossing"] == none


def test_a_rare_class_is_stated(files):
    """A class with one object is missing in (1 - 1/40)^40 of the resamples, all objects if it has the only one."""
    path = files / "truth.json"
    assert (compare(files)["absent_classes"], compare(files)["empty_resamples"]) == (0, 0)
    truth = json.loads(path.read_text())
    truth["categories"].append({"id": 2, "name": "rare"})
    truth["annotations"][0]["category_id"] = 2
    path.write_text(json.dumps(truth))
    found = compare(files)
    assert found["absent_classes"] == pytest.approx(0.363, abs=0.1)
    assert found["empty_resamples"] == 0
    path.write_text(json.dumps(truth | {"annotations": truth["annotations"][:1]}))
    found = compare(files)
    assert found["empty_resamples"] == pytest.approx(0.363 * 200, abs=20)
    assert found["absent_classes"] == found["empty_resamples"] / 200


def as_parquet(files, *stages):
    rows = read_coco_results(files / "a.json")
    repeated = rows.iloc[list(range(len(rows))) * len(stages)].assign(test_stage=np.repeat(stages, len(rows)))
    write_detections(files / "a.parquet", repeated)


def test_parquet_needs_a_test_stage_where_it_has_several(files):
    as_parquet(files, "(1,1)")
    assert compare(files, "a.parquet")["AP"]["a"] == pytest.approx(compare(files)["AP"]["a"])
    as_parquet(files, "(1,1)", "(2,2)")
    with pytest.raises(InputError, match=r"a\.parquet: choose one .* there are: \(1,1\), \(2,2\)$"):
        compare(files, "a.parquet")
    found = compare(files, "a.parquet", "a.parquet", ("(1,1)", "(2,2)"))
    assert found["AP"]["delta"] == 0
    assert found["test_stages"] == ["(1,1)", "(2,2)"]


def test_one_test_stage_is_that_of_every_file_that_has_some(files):
    as_parquet(files, "(1,1)", "(2,2)")
    alone = compare(files)
    for stages in (["(2,2)"], ["", "(2,2)"]):
        found = compare(files, "b.json", "a.parquet", stages)
        assert found["test_stages"] == ["", "(2,2)"]
        assert found["AP"]["delta"] == pytest.approx(-alone["AP"]["delta"])
    assert compare(files, "a.parquet", "b.json", ["(2,2)"])["test_stages"] == ["(2,2)", ""]
    assert compare(files, "a.parquet", "a.parquet", ["(2,2)"])["test_stages"] == ["(2,2)", "(2,2)"]


def test_a_test_stage_of_a_parquet_without_detections_has_ap_0(files):
    write_detections(files / "a.parquet", read_coco_results(files / "a.json").head(0))
    for stages in ((), ["(2,2)"], ["(2,2)", ""]):
        found = compare(files, "a.parquet", "b.json", stages)
        assert found["AP"]["a"] == 0
        assert found["test_stages"] == [stages[0] if stages else "", ""]


@pytest.mark.parametrize(
    ("second", "stages", "message"),
    [
        ("a.parquet", ["(3,3)"], r"a\.parquet: no detection of test stage '\(3,3\)'; there are: \(1,1\), \(2,2\) "),
        ("a.parquet", ["(2,2)", "(2,2)"], r"b\.json: .*COCO results have no test stages; give --test-stage once"),
        ("a.parquet", ["", ""], r"a\.parquet: choose one of its test stages"),
        ("a.parquet", ["", "(1,1)", "(2,2)"], "--test-stage is given 3 times; give it once, .* or twice"),
        ("a.json", ["(2,2)"], r"--test-stage '\(2,2\)': COCO results, as both files are, have none"),
    ],
)
def test_test_stages_that_are_not_there_are_refused(files, second, stages, message):
    as_parquet(files, "(1,1)", "(2,2)")
    with pytest.raises(InputError, match=message):
        compare(files, "b.json", second, stages)


def test_a_file_without_detections_has_ap_0(files):
    (files / "a.json").write_text("[]")
    found = compare(files)
    assert found["AP"]["a"] == 0
    assert found["AP"]["low"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detections", "a.json"], "--detections is given once; give it twice"),
        (["--detections", "a.json", "--detections", "b.txt"], "b.txt: detections are COCO results"),
        (["--detections", "a.json", "--detections", "none.json"], "none.json"),
        (["--detections", "a.json", "--detections", "b.json", "--resamples", "1"], "resamples 1"),
        (["--detections", "a.json", "--detections", "b.json", "--seed", "-1"], "seed -1"),
    ],
)
def test_mistakes_are_one_line(files, arguments, message, monkeypatch):
    monkeypatch.chdir(files)
    done = CliRunner().invoke(app, ["compare", "--annotations", "truth.json", *arguments])
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)


def test_the_command_prints_json_and_a_table(files, monkeypatch):
    monkeypatch.chdir(files)
    arguments = ["compare", "--annotations", "truth.json", "--detections", "a.json", "--detections", "b.json"]
    done = CliRunner().invoke(app, [*arguments, "--resamples", "200", "--seed", "3", "--json"])
    assert json.loads(done.stdout) == compare(files)
    done = CliRunner().invoke(app, [*arguments, "--resamples", "50"])
    words = " ".join(done.stdout.split())
    assert "50 paired resamples of 40 images, seed 0" in words
    assert "A resample lacks 0 classes in the mean" in words
    assert "A: a.json, B: b.json" in words
    for name in ("0.50:0.95", "0.50:0.65", "0.70:0.80", "0.85:0.95"):
        assert words.count(name) == 1
    crossing = compare(files, resamples=50, seed=0)["crossing"]
    assert f"cross at IoU {crossing['iou']:.3f} (95% interval {crossing['low']:.3f} to" in words


def test_the_line_on_crossings_says_why_there_is_none():
    none = {"crossings": 0, "iou": None, "low": None, "high": None, "share": 0.031}
    assert crossing_words(none) == "The curves of A and B do not cross; 3.1% of the resamples cross exactly once."
    assert "cross 2 times; 3.1%" in crossing_words(none | {"crossings": 2})
    assert "cross at IoU 0.712 (no interval, as 3.1% of" in crossing_words(none | {"crossings": 1, "iou": 0.712})
