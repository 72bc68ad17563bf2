"""The tables of a study whose runs are in every state."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from detection_cases import annotations, detections
from small_studies import two_detectors

from cascadebench.datasets.masks import encoded
from cascadebench.metrics.coco.ap_table import write_ap
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.tables.aggregate import aggregate

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
