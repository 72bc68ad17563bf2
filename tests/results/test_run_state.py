"""How far a run has come, told from its folder alone."""

from cascadebench.results.layout import RunFolder
from cascadebench.results.run_state import progress, run_state


def test_states_in_the_order_of_a_run(tmp_path):
    assert run_state(tmp_path) == ("not run", "")
    (tmp_path / "run.yaml").touch()
    assert run_state(tmp_path) == ("not run", "")
    (tmp_path / "controls.json").touch()
    assert run_state(tmp_path) == ("inspected", "")
    (tmp_path / "checkpoints").mkdir()
    assert run_state(tmp_path) == ("started", "training has begun and is not finished; run again to resume")
    (tmp_path / "trained.json").touch()
    assert run_state(tmp_path) == ("trained", "")
    (tmp_path / "detections.parquet").touch()
    assert run_state(tmp_path) == ("predicted", "")
    (tmp_path / "failed.json").write_text('{"command": "predict", "message": "out of memory"}')
    assert run_state(tmp_path) == ("failed", "predict: out of memory")
    (tmp_path / "failed.json").write_text("{")
    assert run_state(tmp_path)[0] == "failed"
    (tmp_path / "ap.parquet").touch()
    state, detail = run_state(tmp_path)  # what is there stands, and what failed beside it is told
    assert state == "evaluated"
    assert "failed.json" in detail
    (tmp_path / "failed.json").unlink()
    assert run_state(tmp_path) == ("evaluated", "")


def test_detections_of_a_training_whose_manifest_is_gone_do_not_count(tmp_path):
    for name in ("controls.json", "detections.parquet"):
        (tmp_path / name).touch()
    assert progress(RunFolder(tmp_path)) == "inspected"
    (tmp_path / "trained.json").touch()
    assert progress(RunFolder(tmp_path)) == "predicted"
