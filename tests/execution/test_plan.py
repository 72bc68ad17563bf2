"""The plan of a study, from made-up results."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from small_studies import changed_study
from typer.testing import CliRunner

from cascadebench.cli.main import app
from cascadebench.core.files import write_json
from cascadebench.execution.plan import (
    BYTES_PER_DETECTION,
    BYTES_PER_ITERATION,
    BYTES_PER_PARAMETER,
    RATES,
    Figure,
    image_count,
    plan_study,
)
from cascadebench.execution.plan_output import json_of, print_plan, totals
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study

CPU = "CPU, 2 thread(s)"


@pytest.fixture
def study(tmp_path) -> Study:
    """Two variants in one framework with two seeds: 480 iterations of 4 images, 100 validation images."""
    variants = [{"variant": "faster_rcnn"}, {"variant": "cascade_rcnn"}]
    return load_study(changed_study(tmp_path, "planned", frameworks=["mmdet"], variants=variants, seeds=[0, 1]))


def leave(study: Study, results: Path, number: int, **files: dict) -> Path:
    """Write run.yaml and JSON files of a study's run; return its folder."""
    run = study.runs[number].run
    folder = results / "runs" / run.id
    run.write(folder / "run.yaml")
    for name, content in files.items():
        write_json(folder / f"{name}.json", content)
    return folder


def finish(study: Study, results: Path, number: int, device: str = CPU) -> Path:
    """Leave what a finished run leaves, as far as a plan reads it: 10,000 bytes beside the small files."""
    trained = {"seconds_per_iteration": 0.5, "device": device, "processes": 1}
    folder = leave(study, results, number, trained=trained, predicted={"seconds_per_image": 0.1, "device": device})
    (folder / "ap.parquet").write_bytes(b"x" * 10_000)
    return folder


def test_nothing_is_known_of_a_new_study(study, tmp_path):
    plans = plan_study(study, tmp_path / "nowhere")
    assert [one.state for one in plans] == ["to do"] * 4
    assert {one.hours.value for one in plans} == {one.megabytes.value for one in plans} == {None}
    assert all("snakemake inspections" in one.hours.source for one in plans)
    found = totals(plans, "CPU")
    assert (found["hours"], found["hours_unknown"], found["megabytes_unknown"]) == (0, 4, 4)


def test_a_finished_run_tells_of_another_seed(study, tmp_path):
    folder = finish(study, tmp_path, 0)
    done, other, *_ = plan_study(study, tmp_path)
    assert (done.state, done.hours) == ("done", Figure(0.0, "done"))
    assert done.iterations_done == done.iterations == 480
    assert other.state == "to do"
    # Two threads for 480 iterations of half a second and 100 images of a tenth.
    assert other.hours.value == pytest.approx(2 * (480 * 0.5 + 100 * 0.1) / 3600)
    assert other.hours.source == f"measured: {folder.name}"
    assert other.megabytes.source == f"measured: {folder.name}"
    assert 0.0100 < other.megabytes.value < 0.02


def test_a_run_of_another_schedule_and_seed_elsewhere_is_measured_too(study, tmp_path):
    planned = study.runs[0]
    schedule = planned.run.protocol.schedule.model_copy(update={"iterations": 900, "batch_size": 8})
    protocol = planned.run.protocol.model_copy(update={"schedule": schedule})
    elsewhere = replace(study, runs=(replace(planned, run=planned.run.model_copy(update={"protocol": protocol})),))
    finish(elsewhere, tmp_path, 0)
    first = plan_study(study, tmp_path)[0]
    # Half the images in a step take half the time.
    assert first.hours.value == pytest.approx(2 * (480 * 0.25 + 100 * 0.1) / 3600)


def test_time_on_another_device_is_no_measurement(study, tmp_path):
    finish(study, tmp_path, 0, device="NVIDIA A100")
    leave(study, tmp_path, 0, cost={"flops": 3e8, "parameters": 2_000_000})
    other = plan_study(study, tmp_path)[1]
    seconds = (3 * 480 * 4 + 100) * 3e8 / RATES["CPU"]
    assert other.hours.value == pytest.approx(seconds / 3600)
    assert other.hours.source == (
        "estimated: 0.3 G multiply-adds an image, three times that in training, 10 G multiply-adds/s"
    )
    assert other.megabytes.source.startswith("measured")


def test_estimates_without_any_training(study, tmp_path):
    leave(study, tmp_path, 2, cost={"flops": 3e8, "parameters": 2_000_000})
    faster, _, cascade, second = plan_study(study, tmp_path)
    assert faster.hours.value is None  # another detector
    assert cascade.hours == second.hours
    stages = len(study.runs[2].run.variant.test_stages)
    # last.pt and previous.pt stay.
    wanted = 2 * 2_000_000 * BYTES_PER_PARAMETER + 480 * BYTES_PER_ITERATION + 100 * 100 * stages * BYTES_PER_DETECTION
    assert cascade.megabytes.value == pytest.approx(wanted / 1e6)
    assert cascade.megabytes.source.startswith("estimated: 2 checkpoints of 8 bytes a parameter")


def test_what_is_left_of_an_interrupted_run(study, tmp_path):
    finish(study, tmp_path, 0)
    folder = leave(study, tmp_path, 1)
    (folder / "train_log.jsonl").write_text('{"iteration": 0}\n' * 120 + '{"iter')
    assert plan_study(study, tmp_path)[1].state == "to do"  # there is no checkpoint
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.pt").write_bytes(b"")
    interrupted = plan_study(study, tmp_path)[1]
    assert (interrupted.state, interrupted.iterations_done) == ("resumable", 120)
    assert interrupted.hours.value == pytest.approx(2 * (360 * 0.5 + 100 * 0.1) / 3600)
    write_json(folder / "trained.json", {"seconds_per_iteration": 0.5, "device": CPU, "processes": 1})
    trained = plan_study(study, tmp_path)[1]
    assert (trained.state, trained.iterations_done) == ("resumable", 480)
    assert trained.hours.value == pytest.approx(2 * 100 * 0.1 / 3600)


def test_runs_of_other_versions_are_passed_over(study, tmp_path):
    folder = finish(study, tmp_path, 0)
    strange = tmp_path / "runs" / "strange"
    shutil.copytree(folder, strange)
    (strange / "run.yaml").write_text("framework: none\n")
    assert plan_study(study, tmp_path)[1].hours.source == f"measured: {folder.name}"


def test_validation_images_are_those_of_the_lock(study, tmp_path):
    assert image_count(study.dataset, tmp_path) == 100
    write_json(tmp_path / "datasets" / study.dataset.name / "lock.json", {"splits": {"val": {"images": 7}}})
    assert image_count(study.dataset, tmp_path) == 7


def test_the_command_prints_states_sources_and_sums(study, tmp_path):
    folder = finish(study, tmp_path, 0)
    console = Console(width=10_000, record=True, quiet=False)
    plans = plan_study(study, tmp_path)
    with console.capture() as captured:
        print_plan(study, plans, console)
    text = captured.get()
    assert all(run in text for run in study.run_ids)
    assert f"measured: {folder.name}" in text
    assert "4 runs: 1 done, 0 resumable, 3 to do; 0.14 CPU hours to go (and 2 run(s) of which nothing is known)" in text
    arguments = ["plan", str(tmp_path / "planned.yaml"), "--results", str(tmp_path), "--json"]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0
    said = json.loads(printed.stdout)
    assert {one["claim"] for one in said.pop("decides")} == set(study.file.claims)
    assert said == json.loads(json.dumps(json_of(study, plans)))
