"""Detections from outside: checked against the dataset, evaluated as they are, shown as not controlled."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from commands import call
from detection_cases import annotations
from refusals import assert_refused
from small_studies import changed_study

from cascadebench.controls.audit import audit
from cascadebench.core.errors import InputError
from cascadebench.datasets.card import load_dataset_card
from cascadebench.datasets.prepare import prepare
from cascadebench.imported.importing import About, import_files
from cascadebench.imported.record import find_imported, read_imported
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.metrics.coco.evaluate_files import evaluate_files
from cascadebench.report import write_report
from cascadebench.results.layout import ImportedFolder
from cascadebench.study_loading import load_study
from cascadebench.tables.aggregate import aggregate
from cascadebench.tables.study_intervals import write_intervals
from cascadebench.uncertainty.resampled_study import ResampledStudy

BOXES = [(n, 1, 10, 10, 40, 40) for n in (1, 2, 3)]
TRUTH = annotations(BOXES, images=[1, 2, 3], categories=["disc", "star"], file_name="-", width=100, height=100)


def found(image: int, width: float = 40, **changes) -> dict:
    """A detection, as COCO results say it."""
    return {"image_id": image, "category_id": 1, "bbox": [10, 10, width, 40], "score": 0.5} | changes


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a dataset of annotations alone, prepared, and a study that shows what is imported."""
    monkeypatch.chdir(tmp_path)
    Path("truth.json").write_text(json.dumps(TRUTH))
    data = {"kind": "annotations", "root": [str(tmp_path)], "val": "truth.json"}
    card = {"name": "three", "title": "Three", "categories": ["disc", "star"], "data": data}
    Path("three.yaml").write_text(yaml.safe_dump(card))
    study = {"name": "outside", "title": "From outside", "dataset": "three.yaml", "imported": ["mine", "absent"]}
    Path("outside.yaml").write_text(yaml.safe_dump(study))
    prepare(load_dataset_card("three.yaml"), Path("results/datasets/three"))
    return tmp_path


def bring(entries: list[dict] | str, name: str = "mine", about: About | None = None):
    """Import one file."""
    Path("found.json").write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return import_files(name, "three", Path("results"), [Path("found.json")], [], about or About())


def test_numbers_are_those_of_the_file(folder):
    # As float32 the scores would tie, and the better box would come first.
    entries = [found(1, 40), found(2, 28, score=0.50000000001), found(3, 30)]
    imported = bring(entries)
    assert imported.test_stages == ("final",)
    ours = evaluate_files(Path("truth.json"), Path("results/imported/mine/detections.parquet"))["final"]
    assert ours == evaluate_files(Path("truth.json"), Path("found.json"))[""]
    stored = read_detections(Path("results/imported/mine/detections.parquet"))
    assert str(stored["score"].dtype) == "float64"


def test_stages_of_several_files_and_the_headline(folder):
    for name, width in (("first", 25), ("last", 40)):
        Path(f"{name}.json").write_text(json.dumps([found(n, width) for n in (1, 2, 3)]))
    Path("empty.json").write_text("[]")
    stages = ["(1,1)=first.json", "(2,2)=last.json", "nothing=empty.json"]
    imported = import_files("mine", "three", Path("results"), [], stages, About(headline="(2,2)"))
    assert imported.test_stages == ("(1,1)", "(2,2)", "nothing")
    assert [one.name for one in imported.files] == ["first.json", "last.json", "empty.json"]
    study = load_study("outside.yaml")
    aggregate(study, Path("results"))
    rows = pd.read_csv("results/studies/outside/ap.csv").set_index("test_stage")
    assert dict(rows["AP"].round(3)) == {"(1,1)": 0.3, "(2,2)": 1.0, "nothing": 0.0}
    assert dict(rows["headline"]) == {"(1,1)": False, "(2,2)": True, "nothing": False}
    again = import_files(
        "copy", "three", Path("results"), [Path("results/imported/mine/detections.parquet")], [], About()
    )
    assert again.test_stages == ("(1,1)", "(2,2)")


def test_a_study_of_imports_alone_has_a_report(folder):
    bring([found(1), found(2)], about=About(title="Mine <b>", notes="from a friend"))
    study = load_study("outside.yaml")
    aggregate(study, Path("results"))
    write_intervals(ResampledStudy(study, Path("results"), 50))
    intervals = pd.read_csv("results/studies/outside/intervals.csv")
    assert set(intervals["label"]) == {"Mine <b>"}
    assert set(intervals["framework"]) == {"imported"}
    assert intervals["gap"].isna().all()
    write_report(study, Path("results"), Path("page.html"))
    page = Path("page.html").read_text()
    assert "Mine &lt;b&gt;" in page
    assert "not controlled" in page
    assert "from a friend" in page
    assert "Imported detections absent are not shown" in page
    assert read_imported(ImportedFolder(Path("results/imported/mine"))).files[0].sha256 in page
    assert 'id="audit"' not in page


def test_it_stands_beside_runs_and_is_no_part_of_their_audit(folder):
    bring([found(1)], about=About(title="Faster R-CNN FPN"))
    bring([found(1)], name="other")
    data = {"root": [str(folder)], "train": {"annotations": "truth.json", "images": "."}}
    card = yaml.safe_load(Path("three.yaml").read_text()) | {"data": data | {"val": data["train"]}}
    Path("three.yaml").write_text(yaml.safe_dump(card))
    study = load_study(changed_study(folder, "beside", dataset="three.yaml", imported=["mine", "other"]))
    shown, problems = find_imported(study, Path("results"))
    assert [one.id for one in shown] == ["imported/other"]
    assert "title 'Faster R-CNN FPN' is taken" in problems["mine"]
    aggregate(study, Path("results"))
    write_report(study, Path("results"), Path("page.html"))
    assert "Imported, not controlled" in Path("page.html").read_text()
    assert list(pd.read_csv("results/studies/beside/status.csv")["run"]) == study.run_ids
    assert "imported/other" not in {finding.run for finding in audit(study, {}).findings}


def test_other_ground_truth_is_not_shown(folder):
    bring([found(1)])
    path = Path("results/datasets/three/val.json")
    path.write_text(path.read_text().replace("40", "41"))
    _, problems = find_imported(load_study("outside.yaml"), Path("results"))
    assert "other ground truth" in problems["mine"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([found(1), found(9)], r"found.json: row 1 .*: image_id 9 is not in"),
        ([found(1, category_id=7)], r"found.json: row 0 .*: category_id 7 is not in"),
        ([found(1, score="high")], r"found.json: \[0\].score: a number is expected"),
        ([found(1, bbox=[1, 1, -2, 2])], r"found.json: \[0\].bbox: finite numbers with width and height at least 0"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 1, 1, NaN], "score": 1}]', r"\[0\].bbox: finite numbers"),
        ('{"images": []}', "a list is expected"),
    ],
)
def test_what_does_not_belong_is_refused_and_nothing_is_written(folder, entries, message):
    with pytest.raises(InputError, match=message):
        bring(entries)
    assert not Path("results/imported").exists()


@pytest.mark.parametrize(
    ("files", "stages", "about", "message"),
    [
        ([], [], About(), "give one file, or --test-stage"),
        (["a.json", "b.json"], [], About(), "give one file, or --test-stage"),
        ([], ["a.json"], About(), "STAGE=FILE is expected"),
        ([], ["s=a.json", "s=a.json"], About(), "a test stage is given twice"),
        (["a.txt"], [], About(), "COCO results, .json, or .parquet"),
        (["a.json"], [], About(headline="(1,1)"), "is no test stage; there are: final"),
    ],
)
def test_wrong_arguments_are_refused(folder, files, stages, about, message):
    for name in ("a.json", "b.json"):
        Path(name).write_text("[]")
    with pytest.raises(InputError, match=message):
        import_files("mine", "three", Path("results"), list(map(Path, files)), stages, about)


def test_a_name_that_leaves_its_folder_is_refused(folder):
    with pytest.raises(InputError, match="is no name"):
        bring([found(1)], name="../mine")


def test_the_command_and_its_one_line_for_a_dataset_that_is_not_prepared(folder):
    Path("found.json").write_text(json.dumps([found(1)]))
    done = call("import", "mine", "found.json", "--study", "outside.yaml", folder=folder)
    assert (done.returncode, done.stdout) == (0, "results/imported/mine: 1 detections, 1 test stage(s)\n")
    done = call("import", "mine", "found.json", "--dataset", "shapes", folder=folder)
    assert_refused(done, "error: results/datasets/shapes/val.json: no such file")
