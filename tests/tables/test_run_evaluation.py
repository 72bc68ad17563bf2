"""Evaluating a run's folder."""

import json

import pandas as pd
import pytest
from detection_cases import annotations, detections

from cascadebench.core.errors import InputError
from cascadebench.datasets.masks import encoded
from cascadebench.detectors.inference_stages import all_test_stages
from cascadebench.metrics.coco.ap_table import read_ap, summarize
from cascadebench.metrics.coco.detections import write_detections
from cascadebench.metrics.coco.rules import IOUS, LIMITS
from cascadebench.study.run import read_run
from cascadebench.study_loading import load_study
from cascadebench.tables.run_evaluation import evaluate_run

TRUTH = annotations([(1, 1, 0, 0, 50, 50), (2, 1, 0, 0, 50, 50)], images=[1, 2], categories=1)


def found(*test_stages):
    """One right detection, on the first of two images, for every test stage."""
    return pd.concat([detections([(1, 1, 0.5, 0, 0, 50, 50)], label) for label in test_stages])


@pytest.fixture
def folders(tmp_path):
    """A run of a cascade with detections of two test stages, one of which its card does not have."""
    planned = next(planned for planned in load_study("tiny").runs if planned.run.variant.stages == 3)
    run_folder, dataset_folder = tmp_path / "run", tmp_path / "dataset"
    dataset_folder.mkdir()
    (dataset_folder / "val.json").write_text(json.dumps(TRUTH))
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
    truth = json.loads(json.dumps(TRUTH))
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
