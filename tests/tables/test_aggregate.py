"""Evaluating a run's folder, and the tables of a study whose runs are in every state."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from detection_cases import annotations, detections
from small_studies import two_detectors

from cascadebench.core.errors import InputError
from cascadebench.datasets.masks import encoded
from cascadebench.detectors.inference_stages import all_test_stages
from cascadebench.metrics.coco.ap_table import read_ap, summarize, write_ap
from cascadebench.metrics.coco.detections import write_detections
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.metrics.coco.rules import IOUS, LIMITS
from cascadebench.study.run import read_run
from cascadebench.study_loading import load_study
from cascadebench.tables.aggregate import aggregate
from cascadebench.tables.run_evaluation import evaluate_run

STUDY = two_detectors()
TRUTH = annotations([(1, 1, 0, 0, 50, 50)], images=[1], categories=["disc", "ring"])
FOUND = [(1, 1, 0.5, 0, 0, 50, 50)]


def run_folder(results, planned):
    folder = results / "runs" / planned.run.id
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_evaluation(folder, *test_stages):
    """AP table in which these test stages found the object; others of a cascade found nothing."""
    rows = pd.concat([detections(FOUND, label) for label in test_stages])
    write_ap(folder / "ap.parquet", evaluate(TRUTH, rows, ["(1,1)", "(2,2)", "(3,3)"]))


@pytest.fixture
def tables(tmp_path):
    """Baseline and cascade of the first framework are evaluated; of the second one failed, the other is not there."""
    baseline, failed, cascade, absent = STUDY.runs
    assert baseline.run.framework == cascade.run.framework != absent.run.framework
    write_evaluation(run_folder(tmp_path, baseline), "(1,1)")
    write_evaluation(run_folder(tmp_path, cascade), "(1,1)", "(3,3)", cascade.run.variant.headline)
    folder = run_folder(tmp_path, cascade)
    (folder / "cost.json").write_text(json.dumps({"parameters": 12, "trainable_parameters": 10, "flops": 7000000000}))
    (folder / "trained.json").write_text(json.dumps({"seconds_per_iteration": 0.25, "device": "CPU", "new": [1]}))
    failure = {"command": "train", "message": "DivergedError: the loss is\nnot finite", "time": "now"}
    (run_folder(tmp_path, failed) / "failed.json").write_text(json.dumps(failure))
    (run_folder(tmp_path, failed) / "cost.json").write_text("[]")
    aggregate(STUDY, tmp_path)
    folder = tmp_path / "studies" / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == [
        "ap.csv", "ap_per_class.csv", "cost.csv", "gaps.csv", "status.csv",
    ]  # fmt: skip
    return {path.stem: pd.read_csv(path, keep_default_na=False, dtype=str) for path in folder.iterdir()}


def test_status_lists_every_run(tables):
    status = tables["status"]
    header = ["run", "label", "variant", "framework", "backbone", "dataset", "seed", "state", "detail"]
    assert list(status) == header
    assert status["run"].tolist() == STUDY.run_ids
    assert status["state"].tolist() == ["evaluated", "failed", "evaluated", "not run"]
    detail = status["detail"][1]
    assert detail.startswith("train: DivergedError: the loss is not finite; ")
    assert detail.endswith("cost.json: an object is expected, found list")
    assert [status["detail"][row] for row in (0, 2, 3)] == ["", "", ""]


def test_ap(tables):
    ap = tables["ap"]
    assert list(ap)[:9] == ["label", "framework", "backbone", "seed", "run", "test_stage", "headline", "AP", "AP50"]
    assert {"AP55", "AP95", "APs", "APl", "AR1", "AR10", "AR100"} <= set(ap)
    headline = STUDY.runs[2].run.variant.headline
    cascade = ap[ap["label"] == STUDY.runs[2].label].set_index("test_stage")
    assert cascade["AP"].astype(float).to_dict() == pytest.approx({"(1,1)": 1, "(2,2)": 0, "(3,3)": 1, headline: 1})
    assert cascade["headline"].to_dict() == {"(1,1)": "False", "(2,2)": "False", "(3,3)": "False", headline: "True"}
    assert set(cascade["APs"]) == {""}, "no small object: an empty cell"


def test_ap_per_class(tables):
    table = tables["ap_per_class"]
    rows = table[(table["run"] == STUDY.runs[0].run.id) & (table["test_stage"] == "(1,1)")]
    assert rows[["category", "headline"]].values.tolist() == [["disc", "True"], ["ring", "True"]]
    assert (float(rows["AP"].iloc[0]), rows["AP"].iloc[1]) == (pytest.approx(1), "")


def test_gaps(tables):
    gaps = tables["gaps"]
    assert list(gaps) == ["label", "framework", "backbone", "seed", "run", "gap", "iou", "gap_ap"]
    assert set(gaps["run"]) == {STUDY.runs[2].run.id}
    assert gaps[gaps["gap"] == "stage 3 - stage 2"]["gap_ap"].astype(float).tolist() == pytest.approx([1] * 10)
    assert gaps[gaps["gap"] == "stage 3 - baseline"]["gap_ap"].astype(float).tolist() == pytest.approx([0] * 10)
    assert gaps["iou"].iloc[:3].tolist() == ["0.5", "0.55", "0.6"]


def test_cost_has_empty_cells_for_what_is_not_known(tables):
    cost = tables["cost"].set_index("run")
    assert list(cost.index) == STUDY.run_ids
    row = cost.loc[STUDY.runs[2].run.id]
    assert (row["parameters"], row["flops"], row["seconds_per_iteration"]) == ("12", "7000000000", "0.25")
    assert (row["train_device"], row["predict_device"], row["peak_memory_mb"]) == ("CPU", "", "")
    assert set(cost.loc[STUDY.runs[3].run.id][["parameters", "seconds_per_image"]]) == {""}


def test_nothing_was_run(tmp_path):
    aggregate(STUDY, tmp_path)
    assert set(pd.read_csv(tmp_path / "studies" / "tiny" / "status.csv")["state"]) == {"not run"}
    assert len(pd.read_csv(tmp_path / "studies" / "tiny" / "ap.csv")) == 0


def test_a_broken_table_is_a_failed_run(tmp_path):
    (run_folder(tmp_path, STUDY.runs[0]) / "ap.parquet").write_bytes(b"no table")
    aggregate(STUDY, tmp_path)
    status = pd.read_csv(tmp_path / "studies" / "tiny" / "status.csv").iloc[0]
    assert status["state"] == "failed"
    assert "not a readable Parquet file" in status["detail"]


def test_masks_have_a_table_of_their_own(tmp_path):
    baseline, *rest = STUDY.runs
    variant = baseline.run.variant.model_copy(update={"masks": True})
    masked = replace(baseline, run=baseline.run.model_copy(update={"variant": variant}))
    study = replace(STUDY, runs=(masked, *rest))
    truth = TRUTH | {"images": [{"id": 1, "width": 60, "height": 60}]}
    truth["annotations"] = [one | {"segmentation": [[0, 0, 50, 0, 50, 50, 0, 50]]} for one in TRUTH["annotations"]]
    rows = detections(FOUND).assign(segmentation=encoded([[0, 0, 30, 0, 30, 50, 0, 50]], 60, 60)["counts"])
    tables = [evaluate(truth, rows, iou_type=iou_type) for iou_type in ("bbox", "segm")]
    folder = run_folder(tmp_path, masked)
    write_ap(folder / "ap.parquet", pd.concat(tables, ignore_index=True))
    aggregate(study, tmp_path)
    boxes, masks = (pd.read_csv(tmp_path / "studies" / "tiny" / f"{name}.csv") for name in ("ap", "ap_masks"))
    assert boxes[["AP", "AP50", "AP95"]].values[0] == pytest.approx([1, 1, 1])
    # The mask covers 0.6 of the object.
    assert masks["test_stage"].tolist() == ["(1,1)"]
    assert masks[["AP", "AP50", "AP60", "AP65"]].values[0] == pytest.approx([0.3, 1, 1, 0])


TWO = annotations([(1, 1, 0, 0, 50, 50), (2, 1, 0, 0, 50, 50)], images=[1, 2], categories=1)


def found(*test_stages):
    """One right detection, on the first of two images, for every test stage."""
    return pd.concat([detections([(1, 1, 0.5, 0, 0, 50, 50)], label) for label in test_stages])


@pytest.fixture
def folders(tmp_path):
    """A run of a cascade with detections of two test stages, one of which its card does not have."""
    planned = next(planned for planned in load_study("tiny").runs if planned.run.variant.stages == 3)
    run_folder, dataset_folder = tmp_path / "run", tmp_path / "dataset"
    dataset_folder.mkdir()
    (dataset_folder / "val.json").write_text(json.dumps(TWO))
    planned.run.write(run_folder / "run.yaml")
    write_detections(run_folder / "detections.parquet", found("extra", "(2,1)"))
    return run_folder, dataset_folder


def test_run(folders):
    run_folder, dataset_folder = folders
    evaluate_run(run_folder, dataset_folder)
    table = read_ap(run_folder / "ap.parquet")
    labels = [stage.label for stage in all_test_stages(3, 3)] + ["extra"]
    assert list(table["test_stage"].unique()) == labels
    assert len(table) == len(labels) * 2 * len(LIMITS) * len(IOUS)
    half = pytest.approx(51 / 101)  # precision 1 up to recall 0.5
    ap = {label: summarize(table, label)["AP"] for label in labels}
    assert ap == dict.fromkeys(labels, 0) | {"extra": half, "(2,1)": half}
    assert sorted(path.name for path in run_folder.iterdir()) == ["ap.parquet", "detections.parquet", "run.yaml"]


def test_same_bytes_again(folders):
    evaluate_run(*folders)
    first = (folders[0] / "ap.parquet").read_bytes()
    evaluate_run(*folders)
    assert (folders[0] / "ap.parquet").read_bytes() == first


def test_detections_of_another_dataset_leave_no_table(folders):
    run_folder, dataset_folder = folders
    write_detections(run_folder / "detections.parquet", found("(1,1)").assign(image_id=3))
    with pytest.raises(InputError, match=r"detections\.parquet: row 0 .*image_id 3 is not in .*val\.json"):
        evaluate_run(run_folder, dataset_folder)
    assert not (run_folder / "ap.parquet").exists()


def test_a_detector_with_masks_has_its_headline_a_second_time(folders):
    run_folder, dataset_folder = folders
    square = [[0, 0, 50, 0, 50, 50, 0, 50]]
    truth = json.loads(json.dumps(TWO))
    for image, annotation in zip(truth["images"], truth["annotations"], strict=True):
        image.update(width=60, height=60)
        annotation["segmentation"] = square
    (dataset_folder / "val.json").write_text(json.dumps(truth))
    run = read_run(run_folder / "run.yaml")
    run.model_copy(update={"variant": run.variant.model_copy(update={"masks": True})}).write(run_folder / "run.yaml")
    headline = run.variant.headline
    rows = found("(1,1)", headline).assign(segmentation=[None, encoded(square, 60, 60)["counts"]])
    write_detections(run_folder / "detections.parquet", rows)
    evaluate_run(run_folder, dataset_folder)
    boxes, masks = read_ap(run_folder / "ap.parquet"), read_ap(run_folder / "ap.parquet", "segm")
    assert len(boxes["test_stage"].unique()) == len(all_test_stages(3, 3))
    assert masks["test_stage"].unique().tolist() == [headline]
    assert summarize(masks, headline) == summarize(boxes, headline)
    assert summarize(masks, headline)["AP"] == pytest.approx(51 / 101)
    write_detections(run_folder / "detections.parquet", rows.assign(segmentation=None))
    with pytest.raises(InputError, match=r"detections\.parquet, .*: row 0 .*: segmentation: missing"):
        evaluate_run(run_folder, dataset_folder)
