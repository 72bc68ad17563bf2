"""RoIs of a training whose numbers are known by hand, and a log that survives a crash."""

import json
from contextlib import closing

import numpy as np
import pytest

from cascadebench.core.errors import InputError
from cascadebench.diagnostics.observations import StageTraining
from cascadebench.diagnostics.stage_statistics import (
    STAGE_STATISTICS,
    StageStatisticsLog,
    summarize_stages,
    write_stage_statistics,
)
from cascadebench.metrics.coco.parquet import read_parquet

IOUS = np.array([0.0, 0.04, 0.5, 0.55, 0.6, 0.69, 0.7, 1.0], dtype=np.float32)
TARGETS = np.array(
    [[0.3, 0, 0, 0], [0.3, 0, 0, 0], [0.1, 0, 0.2, 0], [0.1, 0, -0.2, 0], [-0.1, 0, 0.2, 0], [-0.1, 9, -0.2, 0]]
)
SEEN = StageTraining(IOUS, TARGETS, IOUS[2:])


def logged(folder, *steps, start=0):
    """A log with these iterations, each with the same RoIs in two stages at 0.5 and 0.6."""
    with closing(StageStatisticsLog(folder, [0.5, 0.6], start)) as log:
        for iteration in steps:
            log.add(iteration, 2, [SEEN, SEEN])


def table_of(folder):
    write_stage_statistics(folder)
    return read_parquet(folder / "stage_statistics.parquet", STAGE_STATISTICS)


def test_counts_of_a_step(tmp_path):
    logged(tmp_path, 0)
    first, second = table_of(tmp_path).to_dict("records")
    assert (first["stage"], first["iou_threshold"], first["images"]) == (1, 0.5, 2)
    assert (first["rois"], first["inliers"], first["outliers"]) == (8, 6, 0)
    assert (second["rois"], second["inliers"], second["outliers"]) == (8, 4, 2)
    histogram = np.zeros(20, dtype=int)
    histogram[[0, 10, 11, 12, 13, 14, 19]] = [2, 1, 1, 1, 1, 1, 1]
    assert first["iou_histogram"].tolist() == histogram.tolist()
    assert second["dx_sum"] == pytest.approx(0.0)
    assert second["dx_square_sum"] == pytest.approx(0.04)
    assert second["dw_square_sum"] == pytest.approx(0.16)
    assert second["dx_histogram"].sum() == second["dy_histogram"].sum() == 4
    assert second["dy_histogram"][-1] == 1  # 9 is far outside, and counts in the last bin
    assert second["dy_histogram"][20] == 3


def test_summary_pools_the_last_quarter(tmp_path):
    logged(tmp_path, *range(0, 80, 10))
    first, second = summarize_stages(table_of(tmp_path)).to_dict("records")
    assert (first["iterations"], first["images"], first["rois"]) == (2, 4, 16)
    assert [first[f"positives_{percent}"] for percent in (50, 60, 70)] == [6 / 8, 4 / 8, 2 / 8]
    assert (first["outlier_share"], second["outlier_share"]) == (0, 2 / 6)
    assert first["dx_mean"] == pytest.approx(0.1)
    assert first["dx_std"] == pytest.approx(np.std(TARGETS[:, 0]))
    assert second["dx_mean"] == pytest.approx(0)
    assert second["dx_std"] == pytest.approx(0.1)
    assert second["dw_std"] == pytest.approx(0.2)


def test_a_stage_without_positives_has_no_statistics(tmp_path):
    with closing(StageStatisticsLog(tmp_path, [0.5], 0)) as log:
        log.add(0, 1, [StageTraining(np.array([0.2]), np.empty((0, 4)), np.empty(0))])
    row = summarize_stages(table_of(tmp_path)).iloc[0]
    assert row["positives_50"] == 0
    assert np.isnan(row[["outlier_share", "dx_mean", "dx_std"]].astype(float)).all()


def test_a_resumed_training_drops_what_it_trains_again_and_a_line_cut_short(tmp_path):
    logged(tmp_path, 0, 10, 20, 30)
    path = tmp_path / "stage_statistics.jsonl"
    with path.open("a") as stream:
        stream.write('{"iteration": 40, "ima')
    logged(tmp_path, 20, 40, start=20)
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == [0, 10, 20, 40]
    assert table_of(tmp_path)["iteration"].tolist() == [0, 0, 10, 10, 20, 20, 40, 40]


def test_resuming_gives_the_bytes_of_an_uninterrupted_training(tmp_path):
    logged(tmp_path / "whole", 0, 10, 20)
    logged(tmp_path / "resumed", 0, 10)
    logged(tmp_path / "resumed", 10, 20, start=10)
    for folder in ("whole", "resumed"):
        write_stage_statistics(tmp_path / folder)
    for name in ("stage_statistics.jsonl", "stage_statistics.parquet"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()


def test_a_new_training_begins_a_new_log(tmp_path):
    logged(tmp_path, 0, 10)
    logged(tmp_path, 0)
    assert table_of(tmp_path)["iteration"].unique().tolist() == [0]


def test_a_log_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        write_stage_statistics(tmp_path)
    (tmp_path / "stage_statistics.jsonl").write_text('{"iteration": 1}\n')
    with pytest.raises(InputError, match="line 1 is no line of stage statistics"):
        write_stage_statistics(tmp_path)


def test_an_empty_log_gives_an_empty_table(tmp_path):
    logged(tmp_path)
    table = table_of(tmp_path)
    assert len(table) == 0
    assert len(summarize_stages(table)) == 0


def test_targets_must_have_an_iou(tmp_path):
    with (
        closing(StageStatisticsLog(tmp_path, [0.5], 0)) as log,
        pytest.raises(ValueError, match="6 targets with 2 IoUs"),
    ):
        log.add(0, 1, [StageTraining(IOUS, TARGETS, IOUS[:2])])
