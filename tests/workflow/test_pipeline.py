"""The road from end to end: a small study through Snakemake, both frameworks, a failure on the way."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from commands import call
from small_studies import of_iterations, small_study, snakemake

from cascadebench.detectors.variant_sources import variant_digest
from cascadebench.study.study import Study


def write_study(folder: Path, **changes) -> Study:
    """Write the small study: the embedded one with few images and iterations."""
    swaps = [
        {"variant": "Faster R-CNN FPN", "proposals_of": "Cascade R-CNN", "stage": 2},
        {"variant": "Cascade R-CNN", "proposals_of": "ground truth"},
    ]
    return small_study(folder, **{"protocol_override": of_iterations(8, 6), "proposal_swaps": swaps} | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Study]:
    """Run the study with a file where a run's checkpoints belong, look at what is left, mend it and run again."""
    folder = tmp_path_factory.mktemp("study")
    study = write_study(folder)
    broken = study.runs[-1].run.id
    checkpoints = folder / "results" / "runs" / broken / "checkpoints"
    checkpoints.parent.mkdir(parents=True)
    checkpoints.write_bytes(b"no folder")
    snakemake(folder, cores=2, expected=1)

    status = pd.read_csv(folder / "results/studies/small/status.csv").set_index("run")["state"]
    assert status[broken] == "failed"
    assert set(status.drop(broken)) == {"evaluated"}
    report = (folder / "reports/small.html").read_text()
    assert "failed" in report
    failure = json.loads((folder / "results/runs" / broken / "failed.json").read_text())
    assert failure["command"] == "train"
    assert failure["message"]

    checkpoints.unlink()
    text = snakemake(folder, cores=2)
    assert text.count("rule train:") == 1
    return folder, study


def test_every_run_is_evaluated_and_the_report_is_written(finished):
    folder, study = finished
    status = pd.read_csv(folder / "results/studies/small/status.csv")
    assert list(status["run"]) == study.run_ids
    assert set(status["state"]) == {"evaluated"}
    assert (folder / "reports/small.html").stat().st_size > 100_000
    for run in study.run_ids:
        of_run = folder / "results" / "runs" / run
        assert not (of_run / "failed.json").exists()
        trained = json.loads((of_run / "trained.json").read_text())
        assert trained["iterations"] == 8
        assert trained["variant_sha256"] == variant_digest(study.run(run).variant.home)
        lines = [json.loads(line) for line in (of_run / "train_log.jsonl").read_text().splitlines()]
        assert [line["iteration"] for line in lines] == list(range(8))
        predicted = json.loads((of_run / "predicted.json").read_text())
        for manifest, command in ((trained, "train"), (predicted, "predict")):
            assert manifest["command"].startswith(f"python -m adapters {study.run(run).framework} {command} --run ")
            assert manifest["started"] <= manifest["finished"]
            assert manifest["hardware"]["processor"]
            assert set(manifest["project"]) == {"version", "commit", "changed"}
        assert lines[1]["lr"] == pytest.approx(study.run(run).protocol.schedule.learning_rate(1))
        assert any((of_run / "tensorboard").iterdir())


def test_intervals_are_in_the_report(finished):
    folder, study = finished
    table = pd.read_csv(folder / "results/studies/small/intervals.csv")
    assert set(table["label"]) == {planned.label for planned in study.runs}
    cascade = table[(table["label"] == "Cascade R-CNN") & (table["gap"] == "stage 3 - baseline")]
    assert set(cascade["framework"]) == set(study.file.frameworks)
    page = (folder / "reports/small.html").read_text()
    assert "Bands are 95% intervals" in page
    assert "intervals.csv is missing" not in page


def test_verdicts_are_in_the_report(finished):
    folder, study = finished
    verdicts = pd.read_csv(folder / "results/studies/small/verdicts.csv")
    between = verdicts["claim"].str.startswith("frameworks-agree-")
    assert list(verdicts[~between]["claim"].unique()) == list(study.file.claims)
    assert between.sum() == len(study.file.variants)
    assert (~between).sum() == len(study.file.claims) * len(study.file.frameworks)
    assert set(verdicts[between]["verdict"]) == {"one seed"}
    assert set(verdicts[~between]["verdict"]) <= {"not comparable", "not run"}, "the claims are about COCO"
    assert verdicts.loc[verdicts["claim"] == "cascade-gains-ap", "value"].notna().all()
    assert set(verdicts["registered"]) == {"registered before training"}
    page = (folder / "reports/small.html").read_text()
    assert f"Verdicts on {len(study.file.claims)} published claims" in page


def test_examples_are_in_the_report(finished):
    folder, study = finished
    examples = json.loads((folder / "results/studies/small/examples.json").read_text())
    assert len(examples["images"]) >= 2
    for image in examples["images"]:
        assert (folder / "results/studies/small" / image["thumbnail"]).stat().st_size < 100_000
        assert {one["run"] for one in image["detected"]} == set(study.run_ids)
    page = (folder / "reports/small.html").read_text()
    assert page.count("data:image/jpeg;base64,") == len(examples["images"])
    assert "mmdet - detectron2" in (folder / "results/studies/small/intervals.csv").read_text()
    assert 'id="agreement-values"' in page


def test_every_run_is_diagnosed(finished):
    folder, study = finished
    always = ["stage_statistics", "localization", "recall", "nms_survivors", "error_kinds", "score_quality"]
    for planned in study.runs:
        of_run = folder / "results" / "runs" / planned.run.id
        assert [name for name in always if not (of_run / f"{name}.parquet").exists()] == []
        several = planned.run.variant.stages > 1
        for name in ("quality_detections", "quality_ap"):
            assert (of_run / f"{name}.parquet").exists() == several
        table = pd.read_parquet(of_run / "stage_statistics.parquet")
        assert list(table["stage"]) == list(range(1, planned.run.variant.stages + 1))
        found = sorted(path.parent.name for path in of_run.glob("proposals_of/*/ap.parquet"))
        assert found == sorted(source.name for source in study.swaps.get(planned.run.id, ()))
    page = (folder / "reports/small.html").read_text()
    for words in ("boxes after stage 2 of Cascade R-CNN", "ground truth added", "head 3 on stage 1"):
        assert words in page


def test_leaving_the_diagnostics_out_makes_nothing_again(finished):
    folder, _ = finished
    write_study(folder, execution={"diagnostics": False})
    text = snakemake(folder, "--dry-run")
    write_study(folder)
    assert "rule predict:" not in text


def test_frameworks_and_variants_saw_the_same_images(finished):
    folder, study = finished
    orders = {json.loads((folder / f"results/runs/{run}/trained.json").read_text())["training_order_sha256"]
              for run in study.run_ids}  # fmt: skip
    assert len(orders) == 1


def test_frameworks_log_the_same_terms(finished):
    folder, study = finished
    terms: dict[str, set] = {}
    for planned in study.runs:
        first = json.loads((folder / f"results/runs/{planned.run.id}/train_log.jsonl").read_text().splitlines()[0])
        terms.setdefault(planned.run.variant.name, set()).add(frozenset(first["losses"]))
    assert all(len(names) == 1 for names in terms.values()), terms


def test_frameworks_have_the_same_control_names(finished):
    folder, study = finished
    names = set()
    for run in study.run_ids:
        controls = json.loads((folder / f"results/runs/{run}/controls.json").read_text())["controls"]
        names.add(tuple(sorted(control["name"] for control in controls)))
    assert len(names) == 1


def test_running_again_does_nothing(finished):
    assert "Nothing to be done" in snakemake(finished[0])


def test_how_a_study_is_executed_trains_nothing_again(finished):
    folder, _ = finished
    write_study(folder, execution={"checkpoint_interval": 4, "memory_mb": 5000}, description="Other words.")
    text = snakemake(folder, "--dry-run")
    assert "rule train:" not in text
    assert "rule report:" in text  # the page shows the description
    write_study(folder)


def test_touched_configuration_trains_nothing_again(finished):
    """What is read again and found unchanged is no reason to train."""
    folder, study = finished
    for path in [*folder.glob("*.yaml"), folder / f"results/runs/{study.run_ids[0]}/run.yaml"]:
        path.touch()
    assert "rule train:" not in snakemake(folder, "--dry-run")


def test_a_protocol_value_trains_again(finished):
    folder, study = finished
    write_study(folder, protocol_override={"schedule": {"iterations": 9, "batch_size": 2, "warmup_iterations": 2,
                                                        "steps": [6]}})  # fmt: skip
    assert snakemake(folder, "--dry-run").count("rule train:") == len(study.runs)
    write_study(folder)


def test_wrong_input_ends_in_one_line_and_code_2_before_any_work(finished):
    folder, _ = finished
    write_study_text = (folder / "small.yaml").read_text()
    (folder / "small.yaml").write_text(write_study_text + "\ncolour: red\n")
    text = snakemake(folder, expected=2)
    (folder / "small.yaml").write_text(write_study_text)
    assert "small.yaml: colour: unknown key" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("framework", ["mmdet", "detectron2"])
def test_the_same_run_twice_gives_the_same_bytes(finished, framework, tmp_path):
    """A Cascade trained and applied again in another folder, by the adapter's own command line."""
    folder, study = finished
    run = next(p.run.id for p in study.runs if (p.run.framework, p.run.variant.name) == (framework, "cascade_rcnn"))
    first = folder / "results" / "runs" / run
    for command in ("train", "predict"):
        where = ["--run", first / "run.yaml", "--out", tmp_path, "--data", folder / "results/datasets/few_shapes"]
        done = call(framework, command, *where, module="adapters")
        assert done.returncode == 0, done.stderr[-3000:]
    for name in ("detections.parquet", "proposals.parquet", "stage_statistics.parquet", "quality_detections.parquet"):
        assert (tmp_path / name).read_bytes() == (first / name).read_bytes(), name
    assert len(pd.read_parquet(tmp_path / "detections.parquet")) > 0


def test_a_refused_dataset_ends_in_one_line_and_code_2_before_any_training(tmp_path):
    """An annotation file that lists a picture that is not there."""
    for split in ("train", "val"):
        image = {"id": 1, "file_name": f"{split}.png", "width": 64, "height": 64}
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
        content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "disc"}]}
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    splits = {split: {"annotations": f"{split}.json", "images": "."} for split in ("train", "val")}
    card = {"name": "few_shapes", "title": "x", "categories": ["disc"], "data": {"root": [str(tmp_path)], **splits}}
    write_study(tmp_path)
    (tmp_path / "few_shapes.yaml").write_text(yaml.safe_dump(card))
    text = snakemake(tmp_path, "--until", "prepare", expected=2)
    assert "'train.png' is not in" in [line for line in text.splitlines() if line.startswith("error: ")][-1]
    assert not (tmp_path / "reports").exists()
    assert not list((tmp_path / "results" / "datasets").glob("*"))
