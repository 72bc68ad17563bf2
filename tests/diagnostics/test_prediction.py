"""One pass through all diagnostics of a prediction, and the files that it leaves."""

import numpy as np

from cascadebench.diagnostics.localization import LOCALIZATION
from cascadebench.diagnostics.nms_survivors import NMS_SURVIVORS
from cascadebench.diagnostics.observations import Candidates, GroundTruthBoxes, ImageObservation, StagePrediction
from cascadebench.diagnostics.recall import RECALL
from cascadebench.diagnostics.run_diagnostics import PredictionDiagnostics
from cascadebench.metrics.coco.parquet import read_parquet

BOX = np.array([[0, 0, 100, 100]], dtype=np.float32)
TRUTH = GroundTruthBoxes(BOX, np.array([0]), np.array([False]), np.array([1e4]))


def observation(image_id, candidates=None):
    """A detector with two regressors and one classifier; nothing moves."""
    stages = (StagePrediction(BOX, BOX, np.array([[0.5, 0.5]])), StagePrediction(BOX, BOX, None))
    return ImageObservation(image_id, BOX, np.ones(1, dtype=np.float32), stages, candidates)


def test_files_of_a_prediction(tmp_path):
    diagnostics = PredictionDiagnostics([0.5, 0.6], {3: TRUTH, 5: TRUTH})
    diagnostics.add(observation(3))
    diagnostics.add(observation(5, Candidates(BOX, np.ones(1), np.zeros(1, int))))
    diagnostics.write(tmp_path)
    localization = read_parquet(tmp_path / "localization.parquet", LOCALIZATION)
    counts = localization.groupby(["part", "stage"], observed=True)["count"].sum().to_dict()
    assert counts == {
        ("regressor", 1): 2, ("regressor", 2): 2, ("regressors so far", 1): 2, ("regressors so far", 2): 2,
        ("classifier", 1): 2,
    }  # fmt: skip
    recall = read_parquet(tmp_path / "recall.parquet", RECALL)
    assert recall.groupby("stage")["matched"].max().to_dict() == {0: 2, 1: 2, 2: 2}
    assert recall["total"].max() == 2
    survivors = read_parquet(tmp_path / "nms_survivors.parquet", NMS_SURVIVORS)
    assert survivors["images"].tolist() == [1] * 8


def test_without_candidates_there_is_no_file_of_survivors(tmp_path):
    diagnostics = PredictionDiagnostics([0.5, 0.6], {3: TRUTH})
    diagnostics.add(observation(3))
    diagnostics.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["localization.parquet", "recall.parquet"]
