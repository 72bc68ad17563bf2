"""The files that a run's detections give."""

import json

import pandas as pd
import pytest
from detection_cases import annotations, detections
from typer.testing import CliRunner

from cascadebench.cli.main import app
from cascadebench.core.errors import InputError
from cascadebench.diagnostics.error_kinds import ERROR_KINDS, KINDS
from cascadebench.diagnostics.observations import QualityStage, quality_stages
from cascadebench.diagnostics.run_diagnostics import diagnose_run
from cascadebench.diagnostics.score_quality import SCORE_QUALITY
from cascadebench.metrics.coco.ap_table import read_ap, summarize
from cascadebench.metrics.coco.detections import write_detections
from cascadebench.metrics.coco.parquet import read_parquet
from cascadebench.study.proposal_swaps import WITH_GROUND_TRUTH
from cascadebench.study_loading import load_study

FOUND = detections([(0, 1, 0.9, 0, 0, 100, 100), (0, 2, 0.8, 0, 0, 100, 100), (0, 1, 0.3, 0, 0, 100, 60)])


@pytest.fixture
def folders(tmp_path):
    """A run of a cascade with detections of its first test stage alone, and of one that its card does not have."""
    run = next(planned.run for planned in load_study("tiny").runs if planned.run.variant.stages == 3)
    run_folder, dataset_folder = tmp_path / "run", tmp_path / "dataset"
    run.write(run_folder / "run.yaml")
    dataset_folder.mkdir()
    truth = annotations([(0, 1, 0, 0, 100, 100), (1, 1, 0, 0, 100, 100)], images=2)
    (dataset_folder / "val.json").write_text(json.dumps(truth))
    write_detections(run_folder / "detections.parquet", pd.concat([FOUND, FOUND.assign(test_stage="extra")]))
    return run_folder, dataset_folder


def test_what_the_detections_give(folders):
    diagnose_run(*folders)
    assert sorted(path.name for path in folders[0].iterdir()) == [
        "detections.parquet", "error_kinds.parquet", "run.yaml", "score_quality.parquet",
    ]  # fmt: skip
    kinds = read_parquet(folders[0] / "error_kinds.parquet", ERROR_KINDS).set_index(["test_stage", "kind"])["count"]
    assert kinds["(1,1)"].to_dict() == dict.fromkeys(KINDS, 0) | {"classification": 1, "duplicate": 1, "missed": 1}
    assert kinds["(3,3)"].to_dict() == dict.fromkeys(KINDS, 0) | {"missed": 2}  # it detected nothing
    assert len(kinds) == 10 * len(KINDS)
    scores = read_parquet(folders[0] / "score_quality.parquet", SCORE_QUALITY).set_index("test_stage")
    assert scores.loc["extra", ["count", "confident", "count_from_50"]].tolist() == [1, 0, 2]
    assert scores.loc["extra", "score_histogram"].tolist() == [0] * 6 + [1] + [0] * 13
    assert scores.loc["(3,3)", "count"] == 0


def test_quality_matrix_and_other_proposals(folders):
    run_folder = folders[0]
    cells = [cell.label for cell in quality_stages(3, 3)]
    assert (cells[0], cells[-2], len(cells)) == ("head 1 on stage 1", "head 3 on stage 2", 9)
    write_detections(run_folder / "quality_detections.parquet", pd.concat(FOUND.assign(test_stage=c) for c in cells))
    other = run_folder / "proposals_of" / WITH_GROUND_TRUTH
    write_detections(other / "detections.parquet", FOUND.assign(test_stage="(3,3)"))
    write_detections(run_folder / "proposals_of" / "nobody" / "detections.parquet", FOUND.head(0))
    diagnose_run(*folders)
    table = read_ap(run_folder / "quality_ap.parquet")
    assert list(table["test_stage"].unique()) == cells
    assert summarize(table, cells[0])["AP"] == pytest.approx(51 / 101)  # one of two, at full precision
    table = read_ap(other / "ap.parquet")
    assert list(table["test_stage"].unique()) == ["(3,3)"]
    nothing = read_ap(run_folder / "proposals_of" / "nobody" / "ap.parquet")
    assert summarize(nothing, "(3,1-3) probabilities")["AP"] == 0


def test_the_command(folders):
    done = CliRunner().invoke(app, ["diagnose-run", str(folders[0]), "--data", str(folders[1])])
    assert (done.exit_code, done.output) == (0, "")
    assert (folders[0] / "error_kinds.parquet").exists()


def test_same_bytes_again(folders):
    names = ("error_kinds.parquet", "score_quality.parquet")
    diagnose_run(*folders)
    first = [(folders[0] / name).read_bytes() for name in names]
    diagnose_run(*folders)
    assert first == [(folders[0] / name).read_bytes() for name in names]


def test_wrong_files_are_refused(folders):
    run_folder = folders[0]
    write_detections(run_folder / "quality_detections.parquet", FOUND)
    with pytest.raises(InputError, match=r"quality_detections\.parquet: test_stage: '\(1,1\)' is no cell"):
        diagnose_run(*folders)
    write_detections(run_folder / "detections.parquet", FOUND.assign(image_id=7))
    with pytest.raises(InputError, match=r"detections\.parquet: row 0 \(counted from 0\): image_id 7 is not in"):
        diagnose_run(*folders)


def test_labels_of_cells():
    assert QualityStage.parse("head 3 on stage 1") == QualityStage(3, 1)
    for label in ("head 0 on stage 1", "head 1 on stage 1 ", "(3,1)"):
        with pytest.raises(ValueError, match="is no cell"):
            QualityStage.parse(label)
